"""Exposures as cells of the lattice, where light fills them."""

from functools import partial

import numpy as np
import pytest
from jwst import datamodels
from scipy import ndimage

from cosmosaic.cells.binning import FEWEST_PIXELS, OUTLIER_SIGMA, bin_exposure, sky_positions, usable_pixels
from cosmosaic.cells.survey import gather
from cosmosaic.geometry.grid import pixel_to_sky, sky_to_pixel
from cosmosaic.geometry.wcs import grid_wcs
from cosmosaic.geometry.windows import cell_lattice
from cosmosaic.records import MosaicGrid
from cosmosaic.sky.overlap import measure_steps

SIDE = 384
RMS = 0.04
LEVELS = (0.3, 0.31)
GRID = MosaicGrid(
    tangent_ra=10.0, tangent_dec=-5.0, rotation=0.0, pixel_scale_mas=31.0, crpix=(191.5, 191.5), shape=(SIDE, SIDE)
)
CELLS = cell_lattice(GRID, 0.031)


def exposure(number, offset, light, cosmic_rays=0):
    return bin_exposure(model_of(number, offset, light, cosmic_rays), CELLS)


def model_of(number, offset, light, cosmic_rays=0):
    """An exposure of a sky, ``light(x, y)`` in MJy/sr at pixels of `GRID`."""
    draw = np.random.default_rng(number)
    grid = GRID.model_copy(update={"crpix": (191.5 + offset[0], 191.5 + offset[1])})
    y, x = np.indices(grid.shape)
    place = sky_to_pixel(GRID, pixel_to_sky(grid, np.stack([x.ravel(), y.ravel()], axis=1).astype(float)))
    data = LEVELS[number] + light(*place.T).reshape(grid.shape) + RMS * draw.standard_normal(grid.shape)
    data[tuple(draw.integers(0, SIDE, (2, cosmic_rays)))] += 500 * RMS
    model = datamodels.ImageModel(data.astype(np.float32))
    model.err = np.full(grid.shape, RMS, dtype=np.float32)
    model.dq = np.zeros(grid.shape, dtype=np.uint32)
    model.meta.wcs = grid_wcs(grid)
    model.meta.filename = f"exposure{number}_nrcb1_cal.fits"
    model.meta.instrument.detector = "NRCB1"
    return model


def test_pixels_that_lie_off_their_cells_to_one_side_make_no_step_on_a_slope():
    def slope(x, y):
        return 0.2 * RMS * (x + y)

    survey = gather([exposure(0, (0, 0), slope), exposure(1, (40.45, 8.45), slope)], CELLS)
    (step,) = measure_steps(survey, np.ones(survey.grid.shape, dtype=bool))
    # By 0.45 pixels along both sides they would make 18 % of the pixel rms.
    assert step.difference == pytest.approx(LEVELS[0] - LEVELS[1], abs=0.015 * RMS)


def test_no_cell_is_lost_far_from_the_typical_brightness():
    def waves(x, y):
        return 60 * RMS * np.sin(x / 120) * np.cos(y / 150)

    found = exposure(0, (0, 0), waves)
    assert found.usable.sum() >= (SIDE // 8 - 1) ** 2
    assert found.pixels[found.usable].mean() > 0.98 * 64


def test_cosmic_rays_are_cut_on_light_too():
    def nebula(x, y):
        return 20 * RMS * (1 + np.sin(x / 90))

    clean, hit = (exposure(0, (0, 0), nebula, number) for number in (0, 200))
    # Uncut, they would lift the mean by 0.7 times the rms of a pixel.
    assert np.nanmean(hit.mean - clean.mean) < 0.02 * RMS


def test_the_means_are_plain_sums_over_the_pixels_to_the_bit():
    """The same arithmetic with arrays of all pixels, in the order of the pixels."""
    model = model_of(1, (40.45, 8.45), lambda x, y: 3 * RMS * np.sin(x / 9), cosmic_rays=300)
    model.dq[::17, ::5] = 1
    model.err[:100] *= 1.5
    found, good = bin_exposure(model, CELLS), usable_pixels(model)
    places = sky_positions(model.meta.wcs, good.shape, partial(sky_to_pixel, CELLS))
    row, column = (np.rint(place[good]).astype(int) for place in places)
    index = (row - found.origin[0]) * found.mean.shape[1] + column - found.origin[1]

    def sums(values, kept=slice(None)):
        weights = None if values is None else values[kept]
        return np.bincount(index[kept], weights, minlength=found.mean.size).reshape(found.mean.shape)

    data, error = model.data[good].astype(float), model.err[good].astype(float)
    noise = np.median(error)
    count = sums(None)
    raw = np.where(count > 0, sums(data) / np.maximum(count, 1), np.median(data))
    around = ndimage.median_filter(raw, 5)
    near = around.ravel()[index]
    level = sums(np.clip(data, near - 3 * noise, near + 3 * noise)) / np.maximum(count, 1)
    lit = np.abs(level - around) > 2 * noise
    kept = lit.ravel()[index] | (np.abs(data - level.ravel()[index]) < OUTLIER_SIGMA * error)
    enough = sums(None, kept) >= FEWEST_PIXELS * 64
    pixels = np.where(enough, sums(None, kept), 0)
    variance = np.where(enough, sums(error**2, kept) / np.maximum(pixels, 1) ** 2, np.inf)
    x = np.where(enough, sums(np.nonzero(good)[1] / (SIDE - 1) - 0.5, kept) / np.maximum(pixels, 1), np.nan)
    assert 0 < np.count_nonzero(~kept) < 400
    assert found.pixel_rms == noise
    np.testing.assert_array_equal(found.pixels, pixels)
    np.testing.assert_array_equal(found.variance, variance)
    np.testing.assert_array_equal(found.detector_position[0], x)
    # The means are moved to the centres of the cells by the slope of the light.
    off = found.mean - np.where(enough, sums(data, kept) / np.maximum(pixels, 1), np.nan)
    assert np.nanmax(np.abs(off)) < RMS
