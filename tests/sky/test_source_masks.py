"""The sky outside of sources that are known pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from jwst import datamodels
from support.skies import PIXEL_RMS, make_survey
from support.skies import SIDE as SKY_SIDE

from cosmosaic.cells.binning import source_pixels
from cosmosaic.cells.source_masks import SourceMaskError, reached_exposures
from cosmosaic.cells.units import bin_masked_exposure, bin_one_exposure, read_cells
from cosmosaic.geometry.grid import pixel_to_sky, sky_to_pixel
from cosmosaic.geometry.wcs import grid_wcs, wcs_header
from cosmosaic.geometry.windows import cell_lattice
from cosmosaic.records import MosaicGrid
from cosmosaic.sky.methods import clean, find_sources, solve_overlaps

SIDE = 384
RMS = 0.04
PEDESTALS = 0.3 + RMS * np.array([0.0, 0.2, -0.15, 0.1])
DITHERS = ((0, 0), (70, 30), (-40, 65), (25, -80))
GRID = MosaicGrid(
    tangent_ra=10.0, tangent_dec=-5.0, rotation=20.0, pixel_scale_mas=31.0, crpix=(191.5, 191.5), shape=(SIDE, SIDE)
)
MASK_GRID = GRID.model_copy(
    update={"rotation": -35.0, "pixel_scale_mas": 25.0, "crpix": (420.5, 419.5), "shape": (840, 842)}
)
CELLS = cell_lattice(GRID, 0.031)
ISOPHOTE = 0.1 * RMS


def sources():
    """Positions, peaks and widths in arcsec of 3000 faint sources, nine in a square arcsecond."""
    draw = np.random.default_rng(7)
    sky = pixel_to_sky(GRID, draw.uniform(-100, SIDE + 100, (3000, 2)))
    return sky, RMS * draw.exponential(1.0, 3000), np.full(3000, 0.04)


def light_on(grid):
    """The sources on a grid's pixels."""
    image = np.zeros(grid.shape)
    positions, peaks, widths = sources()
    y, x = np.indices(grid.shape)
    for (x0, y0), peak, width in zip(sky_to_pixel(grid, positions), peaks, widths, strict=True):
        sigma = 1000 * width / grid.pixel_scale_mas
        near = tuple(slice(max(0, int(c - 6 * sigma)), max(0, int(c + 6 * sigma) + 1)) for c in (y0, x0))
        image[near] += peak * np.exp(-(np.hypot(x[near] - x0, y[near] - y0) ** 2) / (2 * sigma**2))
    return image


def write_exposure(number, dither, folder, light=light_on):
    grid = GRID.model_copy(update={"crpix": (191.5 + dither[0], 191.5 + dither[1])})
    noise = RMS * np.random.default_rng([3, number]).standard_normal(grid.shape)
    model = datamodels.ImageModel((PEDESTALS[number] + light(grid) + noise).astype(np.float32))
    model.err = np.full(grid.shape, RMS, dtype=np.float32)
    model.dq = np.zeros(grid.shape, dtype=np.uint32)
    model.meta.wcs = grid_wcs(grid)
    model.meta.instrument.detector = "NRCB1"
    path = folder / f"exposure{number}_nrcb1_cal.fits"
    model.save(str(path))
    return path


def write_mask(sources_, path, header=None, grid=MASK_GRID):
    hdu = fits.ImageHDU(sources_, header=wcs_header(grid) if header is None else header, name="SEGM")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


@pytest.fixture(scope="module")
def exposures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exposures")
    return [write_exposure(number, dither, folder) for number, dither in enumerate(DITHERS)]


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    """What is brighter than a tenth of a pixel's noise, on a grid that is turned and finer."""
    segments = (light_on(MASK_GRID) > ISOPHOTE).astype(np.int32)
    return write_mask(segments, tmp_path_factory.mktemp("mask") / "deep_segm.fits")


def binned(exposures, folder, mask=None):
    whole = read_cells([bin_one_exposure(path, CELLS, folder).files["cells"] for path in exposures], CELLS)
    if mask is None:
        return whole
    masked = read_cells([bin_masked_exposure(path, mask, CELLS, folder).files["cells"] for path in exposures], CELLS)
    return replace(masked, light=whole.exposures)


def level_errors(survey):
    """Of the levels that overlaps and pedestals give, in units of a pixel's noise."""
    found = solve_overlaps(clean(survey)).levels
    return (np.array([found[name].value for name in survey.names]) - PEDESTALS) / RMS


@pytest.fixture(scope="module")
def masked(exposures, mask, tmp_path_factory):
    return binned(exposures, tmp_path_factory.mktemp("masked"), mask)


def test_the_sky_of_a_crowded_field_is_found_between_its_sources(masked):
    with_mask, without = level_errors(masked), level_errors(masked.with_light)
    # The 48 000 pixels that are used of each exposure tell a level to 0.5 %, and their mean to half of that.
    assert abs(with_mask.mean()) < 0.01
    # Sources that no cell shows raise what is taken for sky.
    assert without.mean() > 0.02


def test_sources_are_looked_for_in_all_light(masked):
    found = find_sources(masked).sources
    alone = find_sources(replace(masked, light=())).sources
    # The outskirts of what was cut out do not show without its core.
    assert found.sum() > 1.5 * alone.sum()


def test_pixels_outside_of_the_mask_stay_sky(exposures, tmp_path):
    half = MASK_GRID.model_copy(update={"shape": (420, 842)})
    mask = write_mask(np.ones(half.shape, np.uint8), tmp_path / "half.fits", grid=half)
    (whole,), (masked,) = (binned(exposures[:1], tmp_path, each).exposures for each in (None, mask))
    row, column = np.nonzero(whole.usable)
    low = read_cells([tmp_path / "exposure0_nrcb1_cells.npz"], CELLS).grid
    y = sky_to_pixel(half, pixel_to_sky(low, np.stack([column, row], axis=1)))[:, 1]
    # Cells are 10 mask pixels wide and 14 across; the mask's edge is enlarged by another 4.
    far = np.abs(y - 419.5) > 14
    kept = masked.usable[row, column]
    assert not kept[far & (y < 419.5)].any()
    assert kept[far & (y > 419.5)].all()
    # What counts as a cosmic ray depends a little on all pixels.
    changed = whole.mean[row, column] != masked.mean[row, column]
    assert np.mean(changed[far & kept]) < 0.01


def test_a_mask_is_enlarged_by_a_tenth_of_an_arcsecond(tmp_path):
    path = write_exposure(0, (0, 0), tmp_path, light=lambda grid: np.zeros(grid.shape))
    segments = np.zeros(GRID.shape, np.uint8)
    segments[200, 180] = 1
    with datamodels.open(path) as model:
        found = source_pixels(write_mask(segments, tmp_path / "one.fits", grid=GRID), model.meta.wcs, GRID.shape)
    y, x = np.indices(GRID.shape)
    assert np.array_equal(found, 0.031 * np.hypot(y - 200, x - 180) <= 0.1)


def test_a_mask_may_lie_beside_an_exposure(exposures, tmp_path):
    beside = MASK_GRID.model_copy(update={"crpix": (5000.5, 420.5)})
    mask = write_mask(np.ones(beside.shape, np.uint8), tmp_path / "beside.fits", grid=beside)
    with datamodels.open(exposures[0]) as model:
        assert not source_pixels(mask, model.meta.wcs, model.data.shape).any()


def test_an_exposure_that_sources_fill_keeps_its_light(exposures, tmp_path):
    mask = write_mask(np.ones(MASK_GRID.shape, np.uint8), tmp_path / "full.fits")
    survey = binned(exposures[:1], tmp_path, mask)
    assert np.array_equal(survey.exposures[0].mean, survey.light[0].mean, equal_nan=True)


FOOTPRINTS = {
    "near": [tuple(corner) for corner in pixel_to_sky(GRID, [(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)])],
    "far": [(190.0, 5.0), (190.01, 5.0), (190.01, 5.01), (190.0, 5.01)],
}


def reached(path, names=("near", "far")):
    with path.open("rb") as stream:
        return reached_exposures(stream, path.name, {name: FOOTPRINTS[name] for name in names})


def test_a_mask_tells_which_exposures_it_reaches(mask):
    assert reached(mask) == ("near",)


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (lambda path: write_mask(np.ones((9, 9), np.uint8), path, fits.Header()), "copy the WCS"),
        (lambda path: write_mask(np.ones(MASK_GRID.shape, np.float32), path), "segmentation map"),
        (lambda path: fits.PrimaryHDU().writeto(path), "no two-dimensional image"),
        (lambda path: path.write_text("DS9 regions"), "takes FITS images"),
    ],
    ids=["no WCS", "a mosaic", "no image", "no FITS"],
)
def test_what_is_no_mask_is_refused_by_name_with_the_cure(tmp_path, change, cure):
    path = tmp_path / "odd.fits"
    change(path)
    with pytest.raises(SourceMaskError, match=rf"odd\.fits: .*{cure}"):
        reached(path)


def test_a_mask_of_another_field_is_refused(mask):
    with pytest.raises(SourceMaskError, match=r"deep_segm\.fits: reaches none of 1 exposures.*check its WCS"):
        reached(mask, names=("far",))


def test_a_mask_leaves_overlaps_whole():
    """What it hides of an overlap cancels anyway."""
    levels = 0.3 + PIXEL_RMS * np.array([0.0, 0.3, -0.2, 0.5, -0.4, 0.1])
    whole = make_survey(levels)
    rows, columns = np.indices((SKY_SIDE, SKY_SIDE))
    hidden = ~((rows % 24 < 2) & (columns % 6 < 1))
    seen = tuple(replace(each, mean=np.where(hidden, np.nan, each.mean)) for each in whole.exposures)
    masked = replace(whole, exposures=seen, light=whole.exposures)
    solution = solve_overlaps(clean(masked))
    assert len(solution.groups) == 1
    found = np.array([solution.levels[name].value for name in whole.names])
    assert np.std(found - levels) < 0.006 * PIXEL_RMS
    # By themselves the cells that it leaves are too few for an overlap.
    assert len(solve_overlaps(clean(replace(masked, light=()))).groups) == len(levels)
