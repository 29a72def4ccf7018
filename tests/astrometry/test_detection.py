"""The stars of an exposure: found where they are, with honest errors, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable
from scipy.spatial import KDTree
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels import dqflags

from cosmosaic.astrometry.detection import exposure_stars, find_exposure_stars
from cosmosaic.simulate.geometry import sky_to_pixel, true_view
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import SimulationSettings

FIELD = SimulationSettings(level="cal", stars_per_arcmin2=400.0, subarray="SUB320", dithers_arcsec=((0.0, 0.0),))
EMPTY = FIELD.model_copy(update={"stars_per_arcmin2": 0.0})


def observe(settings: SimulationSettings, detector: str, folder: Path) -> tuple[PlannedExposure, Path, QTable]:
    frames = plan_exposures(settings)
    frame = next(one for one in frames if one.detector == detector)
    scene = survey_scene(settings, frames)
    return frame, simulate_exposure(frame, scene, settings, folder)[0], scene


@pytest.fixture(scope="module", params=["NRCB1", "NRCBLONG"])
def field(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stars")
    frame, path, scene = observe(FIELD, request.param, folder)
    find_exposure_stars(path, 10.0, folder)
    stars = QTable.read(folder / f"{frame.name}_stars.ecsv")
    true = scene[scene["kind"] == "star"]
    places = np.transpose(sky_to_pixel(frame, true_view(frame), np.asarray(true["ra"]), np.asarray(true["dec"])))
    inside = np.all((places > 8) & (places < 311), axis=1)
    return frame, path, stars, places[inside], np.asarray(true[f"flux_{frame.band}"])[inside]


def pixels(stars):
    return np.stack([stars["x"].value, stars["y"].value], axis=1)


def test_stars_are_found_and_nothing_else(field) -> None:
    _, _, stars, places, flux = field
    distance, _ = KDTree(places).query(pixels(stars))
    assert len(stars) >= 5
    assert np.mean(distance < 0.3) > 0.93  # few cosmic rays and compact galaxies
    bright = flux > np.median(flux)
    far, _ = KDTree(pixels(stars)).query(places[bright])
    assert np.mean(far < 0.3) > 0.6  # the rest are blends


def test_centroids_have_the_errors_that_they_state(field) -> None:
    _, _, stars, places, _ = field
    distance, nearest = KDTree(places).query(pixels(stars))
    same = distance < 0.3
    off = (pixels(stars) - places[nearest])[same]
    error = np.hypot(np.stack([stars["x_err"].value, stars["y_err"].value], axis=1)[same], 0.012)
    assert 0.5 < np.median(np.abs(off / error)) / 0.6745 < 1.6
    assert np.abs(np.median(off, axis=0)).max() < 0.01


def test_places_and_brightness_are_on_the_sky(field) -> None:
    frame, path, stars, places, flux = field
    with datamodels.open(path) as model:
        ra, dec = model.meta.wcs(*pixels(stars).T)
    np.testing.assert_allclose(stars["ra"].value, ra, atol=1e-9)
    np.testing.assert_allclose(stars["dec"].value, dec, atol=1e-9)
    distance, nearest = KDTree(places).query(pixels(stars))
    ratio = (stars["flux"].value / flux[nearest])[distance < 0.3]
    assert 0.6 < np.median(ratio) < 0.9  # a Gaussian has no wings
    assert np.std(ratio) / np.median(ratio) < 0.2
    meta = stars.meta
    assert (meta["exposure"], meta["detector"], meta["band"]) == (frame.name, frame.detector, frame.band)
    assert frame.name.endswith(f"{meta['pointing']}_{frame.detector.lower()}")
    assert meta["epoch"] == pytest.approx(2023.01, abs=0.01)
    assert meta["va_scale"] == frame.va_scale


def test_saturated_stars_are_left_out(field) -> None:
    _, path, stars, _, _ = field
    x, y = (round(value) for value in pixels(stars)[0])
    with datamodels.open(path) as model:
        model.dq[y, x] |= dqflags.pixel["SATURATED"]
        left = exposure_stars(model, 10.0)
    assert np.hypot(*(pixels(left) - (x, y)).T).min() > 1.5
    assert len(left) < len(stars)


def test_an_exposure_without_stars_or_pixels_has_an_empty_table(tmp_path: Path) -> None:
    frame, path, _ = observe(EMPTY.model_copy(update={"galaxies_per_arcmin2": 0.0}), "NRCB1", tmp_path)
    with datamodels.open(path) as model:
        assert len(exposure_stars(model, 10.0)) <= 2
        model.dq[:] |= dqflags.pixel["DO_NOT_USE"]
        nothing = exposure_stars(model, 10.0)
    assert len(nothing) == 0
    assert nothing.meta["exposure"] == frame.name
