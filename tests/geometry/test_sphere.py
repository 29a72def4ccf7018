"""Directions, planes that touch the sphere, and polygons on them."""

import numpy as np
import pytest

from cosmosaic.geometry.sphere import (
    GridError,
    directions,
    footprint_centre,
    footprints_overlap,
    plane_to_sky,
    separations_deg,
    sky_to_plane,
    unit_vectors,
)


def test_the_plane_inverts_to_the_sky_and_the_far_side_has_no_place() -> None:
    offsets = np.array([(0.0, 0.0), (1000.0, -300.0), (-5.0, 7.0)])
    np.testing.assert_allclose(sky_to_plane((0.0, 89.9), plane_to_sky((0.0, 89.9), offsets)), offsets, atol=1e-7)
    assert np.isnan(sky_to_plane((10.0, 0.0), [(190.0, 0.0), (101.0, 0.0)])).all()
    assert directions([(1.0, -1e-30, 0.0)])[0, 0] == 0.0


def test_small_separations_are_exact_anywhere() -> None:
    for dec in (0.0, 60.0, 89.9):
        east, north = plane_to_sky((10.0, dec), [(0.001, 0.0), (0.0, 0.001)])
        for place in (east, north):
            separation = separations_deg(unit_vectors((10.0, dec))[0], unit_vectors(place)[0])[0]
            assert separation * 3600 == pytest.approx(0.001, rel=1e-6)


def test_footprints_overlap_where_they_have_a_common_point() -> None:
    def square(east: float) -> list[tuple[float, float]]:
        corners = [(east - 30, -30), (east + 30, -30), (east + 30, 30), (east - 30, 30)]
        return [(float(ra), float(dec)) for ra, dec in plane_to_sky((359.999, 2.0), corners)]

    assert footprints_overlap(square(0.0), square(59.0))
    assert not footprints_overlap(square(0.0), square(61.0))
    assert not footprints_overlap(square(0.0), [(ra + 180, -dec) for ra, dec in square(0.0)])


def test_a_footprint_over_the_whole_sky_has_no_centre() -> None:
    with pytest.raises(GridError, match="spread over the whole sky"):
        footprint_centre([(0.0, 0.0), (120.0, 0.0), (240.0, 0.0)])
