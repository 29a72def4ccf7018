"""Injected sources are drawn by the seed, inside the coverage, and do not crowd each other."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from cosmosaic.geometry.grid import pixel_to_sky, sky_to_pixel
from cosmosaic.geometry.sphere import sky_to_plane
from cosmosaic.injection.placement import RIM_ARCSEC, SPACING_ARCSEC, place_sources, reaches
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import InjectionSettings

TANGENT = (150.1, 2.2)


def window(tile: str = "full", left: float = 0.0, side: int = 2000) -> MosaicGrid:
    """A window of 30 mas pixels whose lower left corner is so many pixels to the right of the tangent point."""
    return MosaicGrid(
        tangent_ra=TANGENT[0], tangent_dec=TANGENT[1], rotation=20.0, pixel_scale_mas=30.0,
        crpix=(-left - 0.5, -0.5), shape=(side, side), tile=tile,
    )  # fmt: skip


def square(grid: MosaicGrid, low: float, high: float) -> tuple[tuple[float, float], ...]:
    """The footprint of an exposure that fills some pixels of a window along both axes."""
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return tuple((float(ra), float(dec)) for ra, dec in pixel_to_sky(grid, corners))


SETTINGS = InjectionSettings(sources=100, per_arcmin2=60.0, seed=3)
WHOLE = window()
FOOTPRINT = square(WHOLE, 200.0, 1800.0)


def positions(rounds) -> list:
    return [place for places in rounds for some in places.values() for place in some]


def test_the_seed_decides_the_positions():
    once, again = (place_sources([WHOLE], [FOOTPRINT], SETTINGS) for _ in range(2))
    other = place_sources([WHOLE], [FOOTPRINT], SETTINGS.model_copy(update={"seed": 4}))
    assert once == again
    assert not set(positions(once)) & set(positions(other))


def test_sources_of_a_round_keep_their_distance_and_their_density():
    rounds = place_sources([WHOLE], [FOOTPRINT], SETTINGS)
    area = ((1600 * 0.03 - 2 * RIM_ARCSEC) / 60) ** 2
    assert len(rounds) == int(np.ceil(SETTINGS.sources / int(60.0 * area)))
    for places in rounds:
        assert len(places["full"]) <= 60.0 * area
        assert pdist(sky_to_plane(TANGENT, places["full"])).min() >= SPACING_ARCSEC - 1e-3
    assert len(positions(rounds)) == pytest.approx(SETTINGS.sources, abs=len(rounds))


def test_rounds_differ():
    rounds = place_sources([WHOLE], [FOOTPRINT], SETTINGS)
    assert len(set(positions(rounds))) == len(positions(rounds))


def test_sources_lie_inside_the_exposures_and_fill_them_evenly():
    many = SETTINGS.model_copy(update={"sources": 1000, "per_arcmin2": 120.0})
    places = sky_to_pixel(WHOLE, positions(place_sources([WHOLE], [FOOTPRINT], many)))
    rim = RIM_ARCSEC / 0.03
    assert places.min() >= 200.0 + rim - 0.1
    assert places.max() <= 1800.0 - rim + 0.1
    counts, _, _ = np.histogram2d(*places.T, bins=2)
    assert counts.min() > 0.8 * counts.mean()


def test_a_position_in_two_windows_belongs_to_one():
    left, right = window("left", 0.0), window("right", 1000.0)
    rounds = place_sources([left, right], [square(window(side=3000), 0.0, 3000.0)], SETTINGS)
    found = positions(rounds)
    assert len(set(found)) == len(found)
    for places in rounds:
        assert (sky_to_pixel(left, places["left"])[:, 0] < 2000).all()
        assert (sky_to_pixel(left, places["right"])[:, 0] > 1999).all()


def test_exposures_outside_of_all_windows_are_refused():
    with pytest.raises(ValueError, match="cover no part of the windows"):
        place_sources([WHOLE], [square(WHOLE, 5000.0, 6000.0)], SETTINGS)


@pytest.mark.parametrize(("outside_arcsec", "reached"), [(-1.0, True), (3.0, True), (6.0, False)])
def test_wings_reach_an_exposure_from_a_few_arcsec_outside(outside_arcsec, reached):
    (place,) = pixel_to_sky(WHOLE, [(1800.0 + outside_arcsec / 0.03, 1000.0)])
    assert reaches(((float(place[0]), float(place[1])),), FOOTPRINT, WHOLE) is reached
