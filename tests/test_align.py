"""Alignment: an exposure whose pointing is wrong is shifted back onto the others."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from jwst.tweakreg.utils import adjust_wcs
from stdatamodels.jwst import datamodels

from cosmosaic import workers
from cosmosaic.align import align_exposures
from cosmosaic.filters import star_fwhm_pixels
from cosmosaic.survey import AlignSettings

pytestmark = pytest.mark.slow

SHIFT_ARCSEC = 0.1


def corner(path):
    with datamodels.open(path) as model:
        return SkyCoord(*model.meta.wcs(320.0, 320.0), unit="deg")


@pytest.fixture(scope="module")
def aligned(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    paths = demo.cals("F277W")
    moved = folder / paths[1].name
    with datamodels.open(paths[1]) as model:
        model.meta.wcs = adjust_wcs(model.meta.wcs, delta_dec=SHIFT_ARCSEC / 3600)
        model.save(moved)
    plan = workers.plan_workers(1, None, 600.0, None, {})
    settings = AlignSettings(enabled=True, snr_threshold=5.0, minimum_objects=4)
    inputs = [paths[0], moved, paths[2]]
    workers.run(plan, align_in, inputs, settings, star_fwhm_pixels("F277W"), folder)
    workers.stop_workers()
    return inputs, [folder / "out" / path.name for path in paths], paths


def align_in(paths, settings, fwhm_pixels, folder, scratch):
    (folder / "out").mkdir()
    align_exposures(paths, settings, fwhm_pixels, folder / "out")


def test_a_wrong_pointing_is_put_right_relative_to_the_others(aligned, demo):
    inputs, outputs, originals = aligned
    before = corner(inputs[1]).separation(corner(originals[1])).arcsec
    assert before == pytest.approx(SHIFT_ARCSEC, rel=0.01)
    pairs = zip(outputs, originals, strict=True)
    offsets = [corner(output).spherical_offsets_to(corner(original)) for output, original in pairs]
    shifts = np.array([[angle.to_value("mas") for angle in offset] for offset in offsets])
    # Relative to the first exposure, in mas; the pointing errors of the survey itself (3 mas rms) are put right too.
    errors = {row["name"]: np.array([row["ra_error"], row["dec_error"]]) for row in demo.frames}
    truth = np.array([errors[path.name.removesuffix("_cal.fits")] for path in originals])
    left = (shifts - shifts[0]) + (truth - truth[0])
    assert np.abs(left[1]).max() < 10.0
