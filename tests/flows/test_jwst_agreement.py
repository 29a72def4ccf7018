"""What the project makes and what the jwst package makes of it: associations both ways, mosaics, nested grids."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from jwst.associations.asn_from_list import asn_from_list
from jwst.associations.lib.rules_level3_base import DMS_Level3_Base
from support.here import Here
from support.truth import drizzle

from cosmosaic.astrometry.aberration import share_aberration
from cosmosaic.exposures.associations import AssociationError, asked_exposures
from cosmosaic.exposures.search import FoundExposures, find_exposures
from cosmosaic.geometry.grid import pixel_to_sky, survey_grid
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.processes import workers
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import DrizzleSettings, GridSettings, Survey

pytestmark = pytest.mark.slow

FACTOR = 2


@pytest.fixture(scope="module")
def calibrated(demo) -> FoundExposures:
    """The calibrated exposures of all four bands."""
    found = find_exposures(str(demo.products / "exposures"), ())
    frames = tuple(frame for frame in found.exposures if frame.object.name.endswith("_cal.fits"))
    assert len(frames) == 18
    return FoundExposures(frames, ())


def with_weights_of_jwst(demo, cals, folder) -> Path:
    """Our mosaic of the same exposures and levels, on the same pixels, with the weights that jwst has."""
    header = fits.getheader(demo.mosaic("F277W"), "SCI")
    window = MosaicGrid(
        tangent_ra=header["CRVAL1"],
        tangent_dec=header["CRVAL2"],
        rotation=0.0,
        pixel_scale_mas=30.0,
        crpix=(header["CRPIX1"] - 1, header["CRPIX2"] - 1),
        shape=(header["NAXIS2"], header["NAXIS1"]),
    )
    sky = Table.read(demo.product("f277w_sky.ecsv"))
    levels = {str(row["exposure"]): float(row["level"]) for row in sky}
    survey = Survey(name="weights", raw="given", drizzle=DrizzleSettings(weight_type="ivm"))
    return make_mosaic(cals, levels, window, survey, folder, Here())[0]


def test_image3_of_the_jwst_package_makes_the_same_mosaic_of_our_association(demo, crds, tmp_path):
    for path in demo.cals("F277W"):
        share_aberration(path, tmp_path)
    association = demo.product("f277w_asn.json")
    shutil.copy(association, tmp_path)
    ours = fits.getheader(demo.mosaic("F277W"), "SCI")
    parameters = {
        "tweakreg.skip": "true",
        # The default of the project, one value a detector: with one detector an exposure skymatch can do it too.
        "skymatch.skymethod": "local",
        "skymatch.subtract": "true",
        "source_catalog.skip": "true",
        "outlier_detection.scale": "3.0 2.0",
        "resample.pixel_scale": "0.03",
        "resample.rotation": "0.0",
        "resample.crval": f"{ours['CRVAL1']!r},{ours['CRVAL2']!r}",
        "resample.crpix": f"{ours['CRPIX1'] - 1!r},{ours['CRPIX2'] - 1!r}",
        "resample.output_shape": f"{ours['NAXIS1']},{ours['NAXIS2']}",
    }
    command = [str(Path(sys.executable).with_name("strun")), "calwebb_image3", association.name]
    command += [f"--steps.{name}={value}" for name, value in parameters.items()]
    users = {name: value for name, value in os.environ.items() if not name.startswith("CRDS_")}
    own = {name: value for name, value in crds.items() if value}
    environment = users | own | {"STPIPE_DISABLE_CRDS_STEPPARS": "true"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (theirs,) = tmp_path.glob("*_i2d.fits")
    cals = sorted(tmp_path.glob("*_cal.fits"))
    with fits.open(theirs) as hdus, fits.open(with_weights_of_jwst(demo, cals, tmp_path / "own")) as own:
        assert hdus["SCI"].data.shape == own["SCI"].data.shape
        both = np.isfinite(hdus["SCI"].data) & np.isfinite(own["SCI"].data)
        pulls = ((hdus["SCI"].data - own["SCI"].data) / own["ERR"].data)[both]
        weights = (hdus["WHT"].data / own["WHT"].data)[both]
    # The same pixels with the same weights; what differs is how the sky was measured.
    assert both.mean() > 0.2
    assert np.mean(np.abs(weights - 1) < 1e-4) > 0.99
    assert np.percentile(np.abs(pulls - np.median(pulls)), 99) < 0.05
    assert abs(np.median(pulls)) < 0.2


def test_an_association_of_asn_from_list_selects_its_members(calibrated, tmp_path):
    asked = [frame.object.name for frame in calibrated.exposures if frame.band == "F444W"][:2]
    uri = write_association(asked, tmp_path / "two_asn.json")
    chosen = asked_exposures(calibrated, uri)
    assert [frame.object.name for frame in chosen.exposures] == asked
    assert asked_exposures(calibrated, None) is calibrated


def test_an_association_that_mixes_filters_is_refused_by_name(calibrated, tmp_path):
    first = {frame.band: frame.object.name for frame in calibrated.exposures}
    uri = write_association([first["F277W"], first["F444W"]], tmp_path / "mixed_asn.json")
    with pytest.raises(AssociationError, match="filters are mixed") as caught:
        asked_exposures(calibrated, uri)
    assert first["F277W"] in str(caught.value)
    assert first["F444W"] in str(caught.value)


def test_an_association_of_exposures_that_are_not_there_is_refused_by_name(calibrated, tmp_path):
    uri = write_association(["jw09999001001_02101_00001_nrcb1_cal.fits"], tmp_path / "other_asn.json")
    with pytest.raises(AssociationError, match="jw09999001001_02101_00001_nrcb1"):
        asked_exposures(calibrated, uri)


def write_association(names, path):
    association = asn_from_list(names, rule=DMS_Level3_Base, product_name="of_asn_from_list")
    path.write_text(association.dump()[1])
    return str(path)


@pytest.fixture(scope="module")
def nested(demo, children, calibrated, tmp_path_factory):
    """The grids and F277W mosaics of 30 mas and of 60 mas."""
    footprints = {frame.name: frame.footprint for frame in calibrated.exposures}
    settings = GridSettings(long_wavelength_factor=FACTOR)
    grids = survey_grid(settings, footprints), survey_grid(settings, footprints, FACTOR)
    crfs = [Path(str(path).replace("_cal.fits", "_crf.fits")) for path in demo.cals("F277W")]
    folder = tmp_path_factory.mktemp("nested")
    made = [workers.run(children, drizzle, crfs, grid, folder / f"{grid.pixel_scale_mas:g}").result for grid in grids]
    return grids, made


def test_large_pixels_cover_whole_small_ones(nested):
    (fine, coarse), (small, large) = nested
    headers = [fits.getheader(path, "SCI") for path in (small, large)]
    for axis in (1, 2):
        # FITS counts pixels from 1, so their corners lie at half-integers in both.
        zero_based = [header[f"CRPIX{axis}"] - 1 for header in headers]
        assert zero_based[1] == (zero_based[0] + 0.5) / FACTOR - 0.5
        assert headers[0][f"NAXIS{axis}"] == FACTOR * headers[1][f"NAXIS{axis}"]
    corners = np.array([[-0.5, -0.5], [10.5, 7.5], [coarse.shape[1] - 0.5, coarse.shape[0] - 0.5]])
    in_small = (corners + 0.5) * FACTOR - 0.5
    separation = SkyCoord(pixel_to_sky(coarse, corners), unit="deg").separation(
        SkyCoord(pixel_to_sky(fine, in_small), unit="deg")
    )
    assert separation.mas.max() < 1e-3
    # The headers say the same as the grids.
    from_header = WCS(headers[1]).wcs_pix2world(corners, 0) - WCS(headers[0]).wcs_pix2world(in_small, 0)
    assert np.abs(from_header).max() * 3.6e6 < 1e-3


def test_large_pixels_hold_the_light_of_the_small_ones(nested):
    _, (small, large) = nested
    with fits.open(small) as hdus, fits.open(large) as coarse_hdus:
        fine, coarse = hdus["SCI"].data.astype(float), coarse_hdus["SCI"].data.astype(float)
        areas = hdus["SCI"].header["PIXAR_SR"], coarse_hdus["SCI"].header["PIXAR_SR"]
    assert np.isclose(areas[1] / areas[0], FACTOR**2, rtol=1e-6)
    ny, nx = coarse.shape
    light = areas[0] * fine.reshape(ny, FACTOR, nx, FACTOR).sum(axis=(1, 3))
    both = np.isfinite(light) & np.isfinite(coarse)
    bright = both & (coarse > 0.3)
    assert bright.sum() > 1000
    # Light moves over the borders of the bright parts by less than a pixel: 1 % of it at most.
    assert np.isclose(areas[1] * coarse[bright].sum(), light[bright].sum(), rtol=0.01)
    # With the sky's noise, everywhere: 0.2 % of all light.
    assert np.isclose(areas[1] * coarse[both].sum(), light[both].sum(), rtol=0.002)
