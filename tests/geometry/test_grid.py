"""All mosaics of a survey share one pixel grid, anywhere on the sky."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from stcal.alignment.util import wcs_from_sregions

from cosmosaic.geometry.grid import overlaps, pixel_to_sky, resample_parameters, sky_to_pixel, survey_grid
from cosmosaic.geometry.sphere import GridError, plane_to_sky
from cosmosaic.geometry.wcs import grid_wcs, wcs_header
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import GridSettings

Corners = tuple[tuple[float, float], ...]
ARCMIN = 60.0

right_ascensions = st.one_of(st.floats(0, 359.999), st.sampled_from([0.0, 359.9999, 1e-6]))
declinations = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 89.999]))


def square(ra: float, dec: float, side_arcsec: float = 64.0, angle: float = 0.0) -> Corners:
    """Corners of a square on the sky, turned by an angle in degrees."""
    half = side_arcsec / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    sky = plane_to_sky((ra, dec), corners @ np.array([(c, s), (-s, c)]))
    return tuple((float(a), float(b)) for a, b in sky)


@st.composite
def surveys(draw: st.DrawFn) -> dict[str, Corners]:
    """Exposures within a few arcminutes of a point anywhere on the sky."""
    centre = draw(right_ascensions), draw(declinations)
    frames = {}
    for number in range(draw(st.integers(1, 5))):
        offset = [draw(st.floats(-3 * ARCMIN, 3 * ARCMIN)) for _ in range(2)]
        ra, dec = plane_to_sky(centre, [offset])[0]
        frames[f"frame{number}"] = square(ra, dec, draw(st.floats(5, 130)), draw(st.floats(0, 360)))
    return frames


grids = st.builds(
    GridSettings,
    rotation=st.floats(-180, 360),
    pixel_scale_mas=st.sampled_from([20.0, 30.0, 31.5, 60.0]),
    long_wavelength_factor=st.integers(1, 8),
)


@settings(max_examples=100, deadline=None)
@given(grids, surveys())
def test_every_footprint_lies_inside_the_window(chosen: GridSettings, frames: dict[str, Corners]) -> None:
    for factor in {1, chosen.long_wavelength_factor}:
        grid = survey_grid(chosen, frames, factor)
        rows, columns = grid.shape
        for corners in frames.values():
            x, y = sky_to_pixel(grid, corners).T
            assert x.min() >= -0.5
            assert x.max() <= columns - 0.5
            assert y.min() >= -0.5
            assert y.max() <= rows - 0.5
            assert overlaps(grid, corners)


@settings(max_examples=100, deadline=None)
@given(grids, surveys())
def test_large_pixels_nest_exactly_in_small_ones(chosen: GridSettings, frames: dict[str, Corners]) -> None:
    factor = chosen.long_wavelength_factor
    small, large = survey_grid(chosen, frames), survey_grid(chosen, frames, factor)
    assert large.pixel_scale_mas == factor * small.pixel_scale_mas
    assert (large.tangent_ra, large.tangent_dec, large.rotation) == (
        small.tangent_ra,
        small.tangent_dec,
        small.rotation,
    )
    for axis in (0, 1):
        assert small.shape[axis] == factor * large.shape[axis]
        assert large.crpix[axis] == (small.crpix[axis] + 0.5) / factor - 0.5
    corner = [(-0.5, -0.5)]
    np.testing.assert_allclose(pixel_to_sky(small, corner), pixel_to_sky(large, corner), rtol=0, atol=1e-11)


@settings(max_examples=50, deadline=None)
@given(surveys(), st.floats(0, 360), st.floats(0, 1800))
def test_windows_on_one_tangent_point_differ_by_whole_pixels(
    frames: dict[str, Corners], angle: float, distance_arcsec: float
) -> None:
    ra, dec = frames["frame0"][0]
    chosen = GridSettings(tangent_ra=ra, tangent_dec=dec, largest_mpix=1e9)
    offset = distance_arcsec * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    elsewhere = {"elsewhere": square(*plane_to_sky((ra, dec), [offset])[0])}
    one, other = survey_grid(chosen, frames), survey_grid(chosen, elsewhere)
    assert all((a - b) % 8 == 0 for a, b in zip(one.crpix, other.crpix, strict=True))


def test_the_order_of_the_exposures_does_not_matter() -> None:
    frames = {f"frame{i}": square(150 + 0.01 * i, 2.2 + 0.003 * i) for i in range(7)}
    assert survey_grid(GridSettings(), frames) == survey_grid(GridSettings(), dict(reversed(frames.items())))


def test_without_a_tangent_point_the_middle_is_rounded_to_a_hundredth_of_a_degree() -> None:
    frames = {"a": square(150.1163, 2.2009), "b": square(150.1363, 2.2209)}
    grid = survey_grid(GridSettings(), frames)
    assert (grid.tangent_ra, grid.tangent_dec) == (150.13, 2.21)


def test_one_more_exposure_at_the_edge_keeps_the_tangent_point() -> None:
    frames = {f"frame{i}": square(150.12 + 0.005 * (i % 3), 2.2) for i in range(9)}
    assert (
        survey_grid(GridSettings(), frames).crpix[1]
        == survey_grid(GridSettings(), frames | {"new": square(150.13, 2.2)}).crpix[1]
    )


def test_a_survey_across_ra_zero_is_small() -> None:
    grid = survey_grid(GridSettings(), {"a": square(359.995, 10.0), "b": square(0.006, 10.0)})
    assert grid.tangent_ra == 0.0
    assert max(grid.shape) * 0.03 < 120


def test_a_survey_over_the_pole_is_small() -> None:
    grid = survey_grid(GridSettings(), {str(ra): square(ra, 89.995) for ra in (10.0, 130.0, 250.0)})
    assert grid.tangent_dec == pytest.approx(90.0, abs=0.01)
    assert max(grid.shape) * 0.03 < 140


@settings(max_examples=20, deadline=None)
@given(grids, surveys())
def test_the_fits_header_and_gwcs_are_the_same_grid(chosen: GridSettings, frames: dict[str, Corners]) -> None:
    grid = survey_grid(chosen, frames, chosen.long_wavelength_factor)
    pixels = np.array([(0.0, 0.0), (100.0, 3.0), (7.5, 60.25)])
    sky = SkyCoord(pixel_to_sky(grid, pixels), unit="deg")
    by_header = SkyCoord(WCS(wcs_header(grid)).all_pix2world(pixels, 0), unit="deg")
    by_gwcs = SkyCoord(np.transpose(grid_wcs(grid)(*pixels.T, with_bounding_box=False)), unit="deg")
    assert sky.separation(by_header).to_value(u.mas).max() < 1e-3
    assert sky.separation(by_gwcs).to_value(u.mas).max() < 1e-3


@pytest.mark.parametrize("rotation", [0.0, 20.0, -75.0])
def test_y_points_at_its_position_angle_and_east_is_left_of_it(rotation: float) -> None:
    grid = survey_grid(GridSettings(rotation=rotation), {"a": square(150.1, 2.2)})
    origin, right, up = SkyCoord(pixel_to_sky(grid, [(500, 500), (600, 500), (500, 600)]), unit="deg")
    assert origin.position_angle(up).wrap_at("180d").deg == pytest.approx(rotation, abs=0.01)
    assert (origin.position_angle(right) - origin.position_angle(up)).wrap_at("180d").deg == pytest.approx(
        -90, abs=0.01
    )
    assert origin.separation(up).mas == pytest.approx(100 * 30.0, rel=1e-6)


@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_jwst_makes_the_same_wcs_of_the_parameters(rotation: float) -> None:
    frames = {"a": square(150.1, 2.2), "b": square(150.12, 2.21, angle=30.0)}
    grid = survey_grid(GridSettings(rotation=rotation), frames)
    parameters = resample_parameters(grid)
    ours = grid_wcs(grid)
    theirs = wcs_from_sregions(
        [np.array(corners) for corners in frames.values()],
        ref_wcs=ours,
        ref_wcsinfo={"v3yangle": 0.34, "vparity": -1, "roll_ref": 77.0},
        pscale=parameters["pixel_scale"] / 3600,
        rotation=parameters["rotation"],
        shape=parameters["output_shape"][::-1],
        crpix=parameters["crpix"],
        crval=parameters["crval"],
    )
    assert theirs.pixel_shape == ours.pixel_shape == tuple(parameters["output_shape"])
    pixels = np.array([(0.0, 2000.0, 17.0), (0.0, 5.0, 1700.0)])
    np.testing.assert_allclose(
        theirs(*pixels, with_bounding_box=False), ours(*pixels, with_bounding_box=False), rtol=0, atol=1e-11
    )


def window(x: float, y: float, size: int) -> MosaicGrid:
    """A window whose middle lies (x, y) arcsec west and north of (0, 45)."""
    pixels = size * 1000 / 30
    return MosaicGrid(
        tangent_ra=0.0,
        tangent_dec=45.0,
        rotation=0.0,
        pixel_scale_mas=30.0,
        crpix=(pixels / 2 - x * 1000 / 30, pixels / 2 - y * 1000 / 30),
        shape=(round(pixels), round(pixels)),
    )


def test_a_window_is_touched_by_the_exposures_that_reach_it() -> None:
    frame = square(0.0, 45.0, side_arcsec=60.0)
    assert overlaps(window(0, 0, 30), frame)
    assert overlaps(window(0, 0, 300), frame)
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert overlaps(window(44.9 * x, 44.9 * y, 30), frame)
        assert not overlaps(window(45.6 * x, 45.6 * y, 30), frame)
    assert not overlaps(window(46.5, 0, 30), square(180.0, -45.0))


def test_a_turned_exposure_misses_the_window_at_its_bounding_box_corner() -> None:
    frame = square(0.0, 45.0, side_arcsec=60.0, angle=45.0)
    assert not overlaps(window(40, 40, 20), frame)
    assert overlaps(window(40, 0, 20), frame)


@settings(max_examples=100, deadline=None)
@given(st.floats(-80, 80), st.floats(-80, 80), st.floats(0, 90), st.integers(5, 40))
def test_no_exposure_with_a_pixel_in_a_window_is_left_out(x: float, y: float, angle: float, size: int) -> None:
    frame = square(0.0, 45.0, side_arcsec=60.0, angle=angle)
    grid = window(x, y, size)
    inside = plane_to_sky((0.0, 45.0), np.random.default_rng(1).uniform(-21, 21, (400, 2)))
    inside = np.concatenate([inside, frame])
    pixels = sky_to_pixel(grid, inside)
    if ((pixels >= -0.5) & (pixels <= size * 1000 / 30 - 0.5)).all(axis=1).any():
        assert overlaps(grid, frame)


def test_an_absurd_mosaic_is_refused_by_its_farthest_exposure() -> None:
    frames = {f"frame{i}": square(150.1 + 0.01 * i, 2.2) for i in range(5)} | {"stray": square(151.1, 3.2)}
    with pytest.raises(GridError, match=r"farthest out is stray, 1\.396 deg") as caught:
        survey_grid(GridSettings(), frames)
    assert "grid.largest_mpix = 2500" in str(caught.value)


def test_an_exposure_on_the_other_side_of_the_sky_is_named() -> None:
    frames = {f"frame{i}": square(150.1, 2.2 + 0.01 * i) for i in range(3)} | {"stray": square(330.0, -2.0)}
    with pytest.raises(GridError, match="farthest out is stray"):
        survey_grid(GridSettings(), frames)


def test_a_tangent_point_far_from_the_exposures_is_refused() -> None:
    with pytest.raises(GridError, match=r"19\.99 deg from the tangent point RA 170\.1"):
        survey_grid(GridSettings(tangent_ra=170.1, tangent_dec=2.2), {"a": square(150.1, 2.2)})


@pytest.mark.parametrize("footprint", [(), ((1.0, 2.0),), ((1.0, 2.0), (1.1, 2.0), (1.1, np.nan))])
def test_what_is_no_polygon_is_refused_by_name(footprint: Corners) -> None:
    with pytest.raises(GridError, match="broken"):
        survey_grid(GridSettings(), {"good": square(1.0, 2.0), "broken": footprint})


def test_no_exposures_and_scales_that_do_not_nest_are_refused() -> None:
    with pytest.raises(GridError, match="no exposures"):
        survey_grid(GridSettings(), {})
    with pytest.raises(ValueError, match="do not nest"):
        survey_grid(GridSettings(), {"a": square(1.0, 2.0)}, 3)
