"""The PSF of a mosaic that is drizzled through its exposures is that of its stars."""

from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from support.here import Here

from cosmosaic.catalog.apertures import circles, sum_apertures
from cosmosaic.catalog.detector_psf import DetectorPsf
from cosmosaic.catalog.drizzled import drizzle_psfs, make_drizzled_psf, places_of
from cosmosaic.catalog.image import MosaicImage, read_mosaic
from cosmosaic.catalog.psf import Psf, model_psf, read_psf
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.nircam import DRAWN_SHORT_PIXEL_ARCSEC
from cosmosaic.records import MosaicGrid
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.psf import effective_psf
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import DrizzleSettings, FilterPair, GridSettings, OutlierSettings, SimulationSettings, Survey

BAND = "F150W"
SIMULATION = SimulationSettings(
    level="cal",
    detectors=("NRCB1",),
    subarray="SUB320",
    filter_pairs=(FilterPair(short=BAND, long="F277W"),),
    dithers_arcsec=((-0.6, -0.4), (0.4, 0.3), (0.9, -0.5)),
    galaxies_per_arcmin2=0.0,
    stars_per_arcmin2=2000.0,
    flicker_noise=False,
    pedestal_rms=0.0,
    cosmic_rays_per_s_cm2=0.0,
    pointing_error_mas=0.0,
    roll_error_arcsec=0.0,
    placement_error_mas=0.0,
    filter_offset_mas=0.0,
    proper_motion_mas_yr=0.0,
)
DRIZZLE = DrizzleSettings(pixfrac=0.7)
FLUX_NJY = 1e5
RADII = np.array([0.06, 0.1, 0.15, 0.3, 0.6])
REACH = 34


@pytest.fixture(scope="module")
def stars() -> Table:
    """Stars of one brightness, 2 arcsec and more apart."""
    scene = survey_scene(SIMULATION, plan_exposures(SIMULATION))
    x, y = 3600 * np.asarray(scene["ra"]) * np.cos(np.radians(scene["dec"])), 3600 * np.asarray(scene["dec"])
    chosen: list[int] = []
    for number in range(len(scene)):
        if np.all(np.hypot(x[chosen] - x[number], y[chosen] - y[number]) > 2.0):
            chosen.append(number)
    scene = scene[chosen]
    scene[f"flux_{BAND}"] = FLUX_NJY
    return scene


@pytest.fixture(scope="module")
def made(stars: Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[MosaicImage, list[Path], MosaicGrid]:
    """A mosaic on a turned grid of exposures of different lengths."""
    folder, paths = tmp_path_factory.mktemp("stars"), []
    for one, groups in zip(plan_exposures(SIMULATION), (4, 10, 6), strict=True):
        settings = SIMULATION.model_copy(update={"groups": groups})
        paths.append(simulate_exposure(one, stars, settings, folder)[0])
    window = survey_grid(GridSettings(rotation=-35.0), {path.name: read_footprint(path) for path in paths})
    levels = {exposure_name(path.name): float(np.nanmedian(fits.getdata(path, "SCI"))) for path in paths}
    off = OutlierSettings(enabled=False)
    survey = Survey(name="field", raw="given", drizzle=DRIZZLE, outliers=off)
    mosaic, crfs = make_mosaic(paths, levels, window, survey, folder / "made", Here())
    return read_mosaic(mosaic), list(crfs.values()), window


def detector_psf() -> dict[str, DetectorPsf]:
    psf = effective_psf(BAND, DRAWN_SHORT_PIXEL_ARCSEC)
    image = np.asarray(psf.image, float) / np.sum(psf.image)
    return {"NRCB1": DetectorPsf(image[None, None], np.zeros(1), np.zeros(1), psf.scale_arcsec, "arcsec")}


def test_light_within_circles_is_that_of_the_stars(
    made: tuple[MosaicImage, list[Path], MosaicGrid], stars: Table
) -> None:
    image, crfs, window = made
    x, y = image.wcs.all_world2pix(stars["ra"], stars["dec"], 0)
    deep = np.zeros(len(x), bool)
    inside = (x > REACH) & (y > REACH) & (x < image.sci.shape[1] - REACH) & (y < image.sci.shape[0] - REACH)
    at = np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)
    deep[inside] = image.exposures[at] == 3
    x, y = x[deep], y[deep]
    clear = np.array(
        [
            image.valid[round(b) - 24 : round(b) + 25, round(a) - 24 : round(a) + 25].all()
            for a, b in zip(x, y, strict=True)
        ]
    )
    x, y = x[clear], y[clear]
    assert len(x) >= 8
    places = [(round(float(a)), round(float(b))) for a, b in zip(x, y, strict=True)]
    psfs = drizzle_psfs(crfs, detector_psf(), places, window, DRIZZLE, REACH)
    assert [(one.x, one.y, one.exposures) for one in psfs] == [(*place, 3) for place in places]
    sky = float(np.median(image.sci[image.valid]))
    measured = [
        sum_apertures(image.sci - np.float32(sky), image.err, image.valid, circles(x, y, image.pixels(radius))).flux
        * image.to_njy
        / FLUX_NJY
        for radius in RADII
    ]
    drizzled = np.mean([Psf(one.image, image.pixel_scale_arcsec, "detector").within(RADII) for one in psfs], axis=0)
    # Each star is known to 0.2 % by its noise; a star off the middle of a pixel is spread by at most as much.
    assert drizzled == pytest.approx(np.mean(measured, axis=1), rel=0.01)


@pytest.mark.slow
def test_the_image_is_turned_as_the_exposures_are(made: tuple[MosaicImage, list[Path], MosaicGrid]) -> None:
    image, crfs, window = made
    rows, columns = image.sci.shape
    (psf,) = drizzle_psfs(crfs, detector_psf(), [(columns // 2, rows // 2)], window, DRIZZLE, REACH)
    angles = np.arange(0.0, 60.0, 1.0)
    likeness = []
    for angle in angles:
        turned = model_psf(BAND, image.pixel_scale_arcsec, DRIZZLE.pixfrac, angle).image
        middle = turned.shape[0] // 2
        part = turned[middle - REACH : middle + REACH + 1, middle - REACH : middle + REACH + 1]
        likeness.append(np.corrcoef(np.sqrt(np.abs(part)).ravel(), np.sqrt(np.abs(psf.image)).ravel())[0, 1])
    assert max(likeness) > 0.99
    header = fits.getheader(crfs[0], "SCI")
    expected = (header["PA_V3"] if "PA_V3" in header else header["ROLL_REF"]) + 35.0
    off = (angles[int(np.argmax(likeness))] - expected + 30.0) % 60.0 - 30.0
    assert abs(off) < 2.0


def test_the_product_has_the_psf_of_each_place(
    made: tuple[MosaicImage, list[Path], MosaicGrid], tmp_path: Path
) -> None:
    image, crfs, window = made
    optics = effective_psf(BAND, DRAWN_SHORT_PIXEL_ARCSEC)
    model = tmp_path / "detector.fits"
    fits.PrimaryHDU(optics.image, fits.Header({"PIXELSCL": optics.scale_arcsec})).writeto(model)
    (mosaic,) = crfs[0].parents[2].rglob("*_i2d.fits")
    files = {crf.name: crf for crf in crfs}
    psf = make_drizzled_psf(mosaic, {"NRCB1": model}, files, window, DRIZZLE, BAND, "x", tmp_path).files["psf"]
    read = read_psf(psf, image.pixel_scale_arcsec)
    assert read.origin == "detector"
    with fits.open(psf) as hdus:
        places = hdus["PLACES"].data
        assert hdus["PSFS"].data.shape == (len(places), *read.image.shape)
        assert len(places) == 9
        assert hdus[0].data == pytest.approx(hdus["PSFS"].data.mean(axis=0), abs=1e-7)
        deepest = int(np.argmax(places["exposures"]))
        x, y = image.wcs.all_world2pix(places["ra"], places["dec"], 0)
        assert x == pytest.approx(places["x"], abs=1e-4)
        assert y == pytest.approx(places["y"], abs=1e-4)
    # The computed PSF is that of many dithers.
    expected = model_psf(BAND, image.pixel_scale_arcsec, DRIZZLE.pixfrac)
    assert places["fwhm"][deepest] == pytest.approx(expected.fwhm_arcsec, rel=0.1)
    assert read.within(RADII[1:]) == pytest.approx(expected.within(RADII[1:]), rel=0.03)


def test_the_psf_is_that_of_the_place_on_the_detector(
    made: tuple[MosaicImage, list[Path], MosaicGrid], tmp_path: Path
) -> None:
    """A grid in the detector's pixels: the same over the subarray, another one elsewhere, on its other sides too."""
    _, crfs, window = made
    (psf,) = detector_psf().values()
    column, row = 512, 1024
    moved = [Path(copy(crf, tmp_path)) for crf in crfs]
    for path in moved:
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.update({"SUBSTRT1": column + 1, "SUBSTRT2": row + 1})
    other = np.roll(psf.images[0, 0], 40, axis=0)
    images = np.array([[psf.images[0, 0] if {j, i} <= {1, 2} else other for i in range(4)] for j in range(4)])
    rows, columns = (np.array([start - 1.0, start, start + 320.0, start + 321.0]) for start in (row, column))
    grid = DetectorPsf(images, rows, columns, psf.scale / DRAWN_SHORT_PIXEL_ARCSEC, "pixel")
    height, width = window.shape
    both = [
        drizzle_psfs(files, {"NRCB1": each}, [(width // 2, height // 2)], window, DRIZZLE, REACH)[0].image
        for files, each in ((crfs, psf), (moved, grid))
    ]
    # The nominal pixel is that of the detector within its distortion.
    assert both[1] == pytest.approx(both[0], abs=0.03 * both[0].max())


def test_a_psf_of_another_detector_is_told(
    made: tuple[MosaicImage, list[Path], MosaicGrid], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, crfs, window = made
    optics = effective_psf(BAND, DRAWN_SHORT_PIXEL_ARCSEC)
    header = fits.Header({"PIXELSCL": optics.scale_arcsec, "DETECTOR": "NRCA5"})
    fits.PrimaryHDU(optics.image, header).writeto(tmp_path / "long.fits")
    (mosaic,) = crfs[0].parents[2].rglob("*_i2d.fits")
    models = {"NRCB1": tmp_path / "long.fits"}
    make_drizzled_psf(mosaic, models, {crfs[0].name: crfs[0]}, window, DRIZZLE, BAND, "x", tmp_path)
    assert "long.fits: the PSF of NRCA5 is used for NRCB1" in caplog.text


def test_places_lie_where_there_is_light() -> None:
    covered = np.zeros((90, 120), bool)
    covered[10:, :80] = True
    covered[30:50, 20:40] = False
    places = places_of(covered)
    assert len(places) == 9
    assert all(covered[y, x] for x, y in places)
    assert places_of(np.zeros((5, 5), bool)) == []
