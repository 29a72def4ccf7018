"""Sources in the light of a bright star are flagged where that light matters, on its spikes far from it."""

from functools import cache

import galsim
import numpy as np
import pytest
from astropy.table import Table
from photutils.aperture import CircularAperture
from support.scenes import NJY_PER_COUNT, SCALE, Scene, measure, psf_of

from cosmosaic.catalog import CatalogFlag
from cosmosaic.catalog.bright import starlight
from cosmosaic.catalog.psf import Psf, model_psf

STAR = (150, 150)
BRIGHT = 2e4
"""nJy; AB 20.6. What lies nearer than 46 pixels is in its segment."""
CIRCLE = 5.0
"""Radius in pixels of 0.3 arcsec diameter."""


@cache
def jwst() -> galsim.GSObject:
    """The telescope's PSF with its spikes."""
    return galsim.InterpolatedImage(galsim.Image(model_psf("F150W", SCALE, 1.0).image, scale=SCALE))


def add_star(scene: Scene, flux: float, x: int, y: int) -> None:
    """Add a star with all light of the PSF's image, of 201 pixels, at the centre of a pixel."""
    image = psf_of(scene).image
    half = len(image) // 2
    padded = np.pad(scene.sci, half)
    padded[y : y + 2 * half + 1, x : x + 2 * half + 1] += flux * image / NJY_PER_COUNT
    scene.sci = padded[half:-half, half:-half]


def in_circle(image: np.ndarray, x: float, y: float) -> float:
    return float(CircularAperture((x, y), CIRCLE).do_photometry(image)[0][0]) * NJY_PER_COUNT


def field(flux: float, turn: float) -> tuple[Table, np.ndarray, np.ndarray]:
    """A bright star and six faint ones around it: catalogue, their places, and the bright one's light there."""
    alone, scene = (Scene(shape=(300, 300), psf=jwst(), seed=5) for _ in range(2))
    for each in (alone, scene):
        add_star(each, BRIGHT, *STAR)
    turns = turn + np.arange(6) * np.pi / 3
    places = np.array(STAR) + np.rint(46 * np.stack([np.cos(turns), np.sin(turns)], axis=1)).astype(int)
    for x, y in places:
        add_star(scene, flux, x, y)
    scene.add_white_noise()
    psf = psf_of(scene).image
    whole = in_circle(psf, len(psf) // 2, len(psf) // 2) / NJY_PER_COUNT
    light = np.array([in_circle(alone.sci, x, y) / whole for x, y in places])
    return measure(scene, bands=("F150W",)).table, places, light


def row_of(table: Table, x: float, y: float) -> int | None:
    distance = np.hypot(table["x"] - x, table["y"] - y)
    return int(distance.argmin()) if distance.min() < 2 else None


def is_near(table: Table) -> np.ndarray:
    return (np.asarray(table["flags"]) & CatalogFlag.NEAR_BRIGHT) > 0


def test_faint_stars_are_flagged_where_the_bright_ones_true_light_matters() -> None:
    """Those whose true light is by a third more or less than the limit: what is measured scatters by the noise."""
    right = {True: 0, False: 0}
    for flux in (20.0, 25.0, 30.0):
        for turn in (0.05, 0.3, 0.5):
            table, places, light = field(flux, turn)
            error = float(np.median(np.asarray(table["f150w_aper_flux_err_0p30"])))
            for (x, y), true in zip(places, light, strict=True):
                row, limit = row_of(table, x, y), max(0.1 * (flux + true), error)
                if row is None or 0.7 < true / limit < 1.4:
                    continue
                assert is_near(table)[row] == (true > limit), (flux, x, y, true, limit)
                right[bool(true > limit)] += 1
            assert not is_near(table)[row_of(table, *STAR)]
    assert right[True] >= 5
    assert right[False] >= 15


def test_a_field_of_equals_has_no_flags() -> None:
    scene = Scene(psf=jwst())
    for x, y in ((100, 100), (130, 100), (300, 220)):
        add_star(scene, 200.0, x, y)
    scene.add_white_noise()
    table = measure(scene, bands=("F150W",)).table
    assert len(table) == 3
    assert not is_near(table).any()


def test_light_is_the_psfs_in_the_circle_and_falls_with_the_third_power_beyond_its_image() -> None:
    scene = Scene(shape=(500, 500), psf=jwst())
    add_star(scene, 1.0, 250, 250)
    psf = psf_of(scene)
    places = np.array([[250, 250], [250, 290], [280, 250], [250, 430], [250, 610]], dtype=float)
    flux = np.array([1e6, 1.0, 1.0, 1.0, 1.0])
    light = starlight(places, flux, flux > 10, psf, 0.3, 1e-6)
    whole = in_circle(scene.sci, 250, 250)
    for number in (1, 2):
        true = 1e6 * in_circle(scene.sci, *places[number]) / whole
        assert light[number] == pytest.approx(true, rel=0.05)
    assert light[0] == 0
    assert light[4] == pytest.approx(light[3] / 8, rel=1e-6)
    assert light[3] > 0


def test_galaxies_and_fainter_stars_add_nothing() -> None:
    places, flux = np.array([[10.0, 10.0], [20.0, 10.0]]), np.array([1e4, 1e3])
    psf = psf_of(Scene(psf=jwst()))
    assert not starlight(places, flux, np.array([False, True]), psf, 0.3, 0.1).any()
    assert starlight(places, flux, np.array([True, True]), psf, 0.3, 0.1).tolist()[0] == 0
    assert starlight(np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool), psf, 0.3, 0.1).shape == (0,)


@pytest.mark.parametrize("side", [5, 9, 11, 13])
def test_the_light_of_a_star_is_known_where_the_psf_has_no_more_pixels_than_the_circle(side: int) -> None:
    y, x = np.indices((side, side)) - side // 2
    image = np.exp(-0.5 * (x**2 + y**2))
    psf = Psf(image / image.sum(), SCALE, "file")
    places = np.array([[50.0, 50.0], [51.0, 50.0], [90.0, 50.0]])
    light = starlight(places, np.array([1e4, 10.0, 10.0]), np.array([True, False, False]), psf, 0.3, 0.1)
    assert light[0] == 0
    # A pixel beside the star, the circle holds a good part of its light; far away, next to nothing.
    assert 0.3 * 1e4 < light[1] <= 1e4
    assert light[2] < 0.01 * 1e4
