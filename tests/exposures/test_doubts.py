"""Settings that leave holes in mosaics, or make pixels too large, are told before the work."""

from pathlib import Path

import numpy as np
import pytest
from drizzle.resample import Drizzle
from support.exposure_files import put

from cosmosaic.exposures.doubts import doubtful_settings, empty_fraction
from cosmosaic.exposures.search import find_exposures
from cosmosaic.records import Exposure
from cosmosaic.survey import Survey

SIDE = 150


@pytest.fixture(scope="module")
def exposures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exposure, ...]:
    """Three exposures of one place in F115W, one elsewhere."""
    folder = tmp_path_factory.mktemp("raw")
    for number in (1, 2, 3):
        put(folder, number)
    put(folder, 4, ra=150.2)
    return find_exposures(str(folder)).exposures


def told(exposures: tuple[Exposure, ...], **settings: object) -> tuple[str, ...]:
    return doubtful_settings(Survey.model_validate(settings), exposures)


def test_ordinary_settings_are_not_doubted(exposures: tuple[Exposure, ...]) -> None:
    assert told(exposures) == ()
    assert told(exposures, drizzle={"pixfrac": 0.8}) == ()
    assert told(exposures, grid={"pixel_scale_mas": 60.0}) == ()


def test_holes_are_told_with_their_share(exposures: tuple[Exposure, ...]) -> None:
    (warning,) = told(exposures, drizzle={"pixfrac": 0.1}, grid={"pixel_scale_mas": 10.0})
    for words in ("F115W", "drizzle.pixfrac = 0.1", "depth of 3", "56 %", "raise drizzle.pixfrac"):
        assert words in warning
    (warning,) = told(exposures, drizzle={"kernel": "point"}, grid={"pixel_scale_mas": 10.0})
    assert "drizzle.kernel = 'point'" in warning


@pytest.mark.parametrize(("pixfrac", "ratio", "depth"), [(0.1, 0.3, 3), (0.01, 0.6, 2), (0.4, 0.25, 1), (0.5, 0.5, 2)])
def test_the_share_is_what_drizzling_leaves_empty(pixfrac: float, ratio: float, depth: int) -> None:
    rng = np.random.default_rng(1)
    size = int(SIDE / ratio)
    found = []
    for _ in range(12):
        driz = Drizzle(kernel="square", out_shape=(size, size), fillval="NAN")
        for offset in rng.uniform(0, 1, (depth, 2)):
            y, x = np.indices((SIDE, SIDE))
            pixmap = np.stack([x + offset[0], y + offset[1]], axis=-1) / ratio
            driz.add_image(np.ones((SIDE, SIDE), np.float32), exptime=1.0, pixmap=pixmap, pixfrac=pixfrac)
        found.append(np.mean(driz.out_wht[20:-20, 20:-20] == 0))
    assert np.mean(found) == pytest.approx(empty_fraction(pixfrac, ratio, 1.0, depth), abs=0.06)


def test_psfs_of_some_detectors_alone_are_told(tmp_path: Path) -> None:
    put(tmp_path, 1, DETECTOR="NRCB3", FILTER="F150W")
    put(tmp_path, 2, DETECTOR="NRCB4", FILTER="F150W")
    both = find_exposures(str(tmp_path)).exposures
    (warning,) = told(both, catalog={"detector_psfs": {"NRCB3_F150W": "p.fits"}})
    assert "none is of NRCB4_F150W" in warning
    assert told(both, catalog={"detector_psfs": {"F150W": "p.fits"}}) == ()
    assert told(both, catalog={"detector_psfs": {"NRCB3_F150W": "p.fits", "NRCB4_F150W": "q.fits"}}) == ()
    assert told(both, catalog={"detector_psfs": {"NRCB3_F150W": "p.fits"}, "psfs": {"F150W": "p.fits"}}) == ()


def test_large_pixels_and_small_apertures_are_told(exposures: tuple[Exposure, ...]) -> None:
    large, small = told(exposures, grid={"pixel_scale_mas": 200.0})
    assert "F115W: pixels of 200 mas are 6.4 times" in large
    assert "0.2, 0.3 are below two pixels of 200 mas" in small
    (large,) = told(exposures, grid={"pixel_scale_mas": 200.0}, drizzle={"errors": "none"})
    assert "times those of the detector" in large
