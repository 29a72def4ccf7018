"""Exposure time and flags of a mosaic's pixels are those of the exposures that saw them."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from jwst import datamodels
from scipy import ndimage
from stdatamodels.exceptions import ValidationWarning
from stdatamodels.jwst.datamodels.dqflags import pixel
from support.here import Here

from cosmosaic.drizzle.exposure import ExposurePlanes, read_exposure
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.mosaic.quality import NOT_OBSERVED, SINGLE_EXPOSURE
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import FilterPair, GridSettings, ResourceSettings, SimulationSettings, Survey

SIMULATION = SimulationSettings(
    level="cal",
    detectors=("NRCB1",),
    subarray="SUB160",
    filter_pairs=(FilterPair(short="F150W", long="F277W"),),
    dithers_arcsec=((-0.6, -0.4), (0.4, 0.3), (0.9, -0.5), (-0.3, 0.7)),
    cosmic_rays_per_s_cm2=0.0,
)
GROUPS = (4, 6, 8, 10)
DO_NOT_USE, SATURATED, JUMP_DET, OUTLIER = (pixel[name] for name in ("DO_NOT_USE", "SATURATED", "JUMP_DET", "OUTLIER"))
FULL = SATURATED | DO_NOT_USE
FLAGGED = {
    "saturated in all": ((60, 60), (FULL, FULL, FULL, FULL)),
    "saturated in one": ((60, 90), (FULL, 0, 0, 0)),
    "bad in all": ((90, 60), (DO_NOT_USE,) * 4),
    "bad in three": ((100, 100), (DO_NOT_USE, DO_NOT_USE, DO_NOT_USE, 0)),
    "jump in all": ((75, 75), (JUMP_DET,) * 4),
    "jump in three": ((100, 75), (JUMP_DET, JUMP_DET, JUMP_DET, 0)),
    "jump where the others are bad": ((75, 105), (JUMP_DET, DO_NOT_USE, JUMP_DET, DO_NOT_USE)),
}
"""Places (x, y) on the first exposure, and what each exposure has there on 7 by 7 pixels."""
RAY = (45, 80)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four dithered exposures of different lengths."""
    folder, planned = tmp_path_factory.mktemp("frames"), plan_exposures(SIMULATION)
    scene = survey_scene(SIMULATION, planned)
    paths = [
        simulate_exposure(one, scene, SIMULATION.model_copy(update={"groups": groups}), folder)[0]
        for one, groups in zip(planned, GROUPS, strict=True)
    ]
    first = read_exposure(paths[0]).wcs
    for number, path in enumerate(paths):
        wcs = read_exposure(path).wcs
        with fits.open(path, mode="update") as hdus:
            hdus["DQ"].data &= ~np.uint32(FULL | JUMP_DET)
            for place, flags in FLAGGED.values():
                x, y = (round(float(value)) for value in wcs.invert(*first(*place)))
                hdus["DQ"].data[y - 3 : y + 4, x - 3 : x + 4] |= np.uint32(flags[number])
            if number == 0:
                hdus["SCI"].data[RAY[1] - 2 : RAY[1] + 3, RAY[0] - 2 : RAY[0] + 3] += 30.0
    return paths


def made(frames: list[Path], folder: Path, tile_pixels: int | None = None) -> Path:
    window = survey_grid(GridSettings(rotation=-35.0), {path.name: read_footprint(path) for path in frames})
    levels = {exposure_name(path.name): float(np.nanmedian(fits.getdata(path, "SCI"))) for path in frames}
    survey = Survey(name="field", raw="given", resources=ResourceSettings(tile_pixels=tile_pixels))
    return make_mosaic(frames, levels, window, survey, folder, Here())[0]


@pytest.fixture(scope="module")
def mosaic(frames: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(frames, tmp_path_factory.mktemp("mosaic"))


def at(mosaic: Path, frames: list[Path], place: tuple[int, int], plane: str) -> float:
    """A plane's value where a pixel of the first exposure lies."""
    with fits.open(mosaic) as hdus:
        x, y = WCS(hdus["SCI"].header).world_to_pixel_values(*read_exposure(frames[0]).wcs(*place))
        return hdus[plane].data[round(float(y)), round(float(x))]


def test_flags_tell_what_the_exposures_have(frames: list[Path], mosaic: Path) -> None:
    found = {name: int(at(mosaic, frames, place, "DQ")) for name, (place, _) in FLAGGED.items()}
    assert found == {
        "saturated in all": FULL,
        "saturated in one": SATURATED,
        "bad in all": DO_NOT_USE,
        "bad in three": SINGLE_EXPOSURE,
        "jump in all": JUMP_DET,
        "jump in three": 0,
        "jump where the others are bad": JUMP_DET,
    }
    assert at(mosaic, frames, RAY, "DQ") == OUTLIER
    for name in ("saturated in all", "bad in all"):
        assert np.isnan(at(mosaic, frames, FLAGGED[name][0], "SCI"))


def test_exposure_times_are_those_of_the_exposures_that_contribute(frames: list[Path], mosaic: Path) -> None:
    times = [fits.getval(path, "EFFEXPTM") for path in frames]
    assert len(set(times)) == 4
    assert at(mosaic, frames, RAY, "EXPTIME") == pytest.approx(sum(times[1:]), rel=1e-6)
    assert at(mosaic, frames, FLAGGED["bad in three"][0], "EXPTIME") == pytest.approx(times[3], rel=1e-6)
    assert at(mosaic, frames, FLAGGED["bad in all"][0], "EXPTIME") == 0.0
    crfs = [next(mosaic.parents[2].rglob(path.name.replace("_cal", "_crf"))) for path in frames]
    with fits.open(mosaic) as hdus:
        seconds, dq, rows_columns = hdus["EXPTIME"].data, hdus["DQ"].data, np.indices(hdus["SCI"].data.shape)
        assert hdus["EXPTIME"].header["BUNIT"] == "s"
        ra, dec = WCS(hdus["SCI"].header).all_pix2world(*rows_columns[::-1], 0)
    expected, certain, reached = np.zeros(ra.shape), np.ones(ra.shape, bool), np.zeros(ra.shape, bool)
    for crf, time in zip(crfs, times, strict=True):
        whole, out = clear_and_out(read_exposure(crf), ra, dec)
        expected += time * whole
        certain &= whole | out
        reached |= ~out
    assert np.mean(certain[reached]) > 0.55
    np.testing.assert_allclose(seconds[certain], expected[certain], rtol=1e-6)
    np.testing.assert_array_equal(dq[~reached], NOT_OBSERVED)
    assert not (dq[reached & certain] & DO_NOT_USE).any()


def clear_and_out(exposure: ExposurePlanes, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where nothing but usable pixels of an exposure is near, and where no pixel of it is near."""
    x, y = exposure.wcs.invert(ra, dec, with_bounding_box=False)
    bad = np.pad((exposure.dq & (DO_NOT_USE | pixel["NON_SCIENCE"])) > 0, 4, constant_values=True)
    clear = ~ndimage.binary_dilation(bad, np.ones((5, 5)))
    rows, columns = np.rint(y).astype(int) + 4, np.rint(x).astype(int) + 4
    inside = (rows >= 0) & (columns >= 0) & (rows < clear.shape[0]) & (columns < clear.shape[1])
    whole = np.zeros(ra.shape, bool)
    whole[inside] = clear[rows[inside], columns[inside]]
    height, width = exposure.shape
    return whole, (x < -2) | (y < -2) | (x > width + 1) | (y > height + 1)


def test_two_detectors_of_an_exposure_count_once(frames: list[Path], tmp_path: Path) -> None:
    twin = Path(shutil.copy(frames[0], tmp_path / frames[0].name.replace("nrcb1", "nrcb2")))
    both = made([frames[0], twin, frames[3]], tmp_path / "both")
    times = [fits.getval(frames[number], "EFFEXPTM") for number in (0, 3)]
    assert fits.getdata(both, "EXPTIME").max() == pytest.approx(sum(times), rel=1e-6)


def test_planes_do_not_depend_on_the_tiles(frames: list[Path], mosaic: Path, tmp_path: Path) -> None:
    tiled = made(frames, tmp_path, tile_pixels=64)
    for plane in ("DQ", "EXPTIME", "NEXP"):
        np.testing.assert_array_equal(fits.getdata(tiled, plane), fits.getdata(mosaic, plane))


def test_jwst_reads_the_flags(mosaic: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ValidationWarning)
        opened = datamodels.open(str(mosaic))
    with opened as model, fits.open(mosaic) as hdus:
        assert (model.meta.resample.weight_type, hdus["SCI"].header["WHTTYPE"]) == ("ivm", "ivm-sky")
        assert model.dq.dtype == np.uint32
        np.testing.assert_array_equal(model.dq, hdus["DQ"].data)
        np.testing.assert_array_equal((model.dq & DO_NOT_USE) > 0, np.isnan(model.data))
        hdus.verify("exception")
