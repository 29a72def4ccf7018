"""The WCS that a product's FITS header states is the one that its pixels were made with, anywhere on the sky."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from jwst import datamodels
from numpy.typing import NDArray
from real import FOLDER, real

from cosmosaic.catalog.measure import make_psf, measure_sources
from cosmosaic.drizzle.exposure import read_exposure, write_flagged
from cosmosaic.drizzle.summary import summarise
from cosmosaic.exposures.footprints import outside_arcsec, region_corners, region_text
from cosmosaic.exposures.wcs import make_fits_wcs_agree, wcs_corners, with_agreeing_wcs
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.sphere import separations_deg, unit_vectors
from cosmosaic.geometry.windows import box_of
from cosmosaic.mosaic.assembly import MOSAIC_PLANES, write_mosaic, write_tile
from cosmosaic.preview.footer import north_and_east
from cosmosaic.preview.images import describe
from cosmosaic.provenance import stamp
from cosmosaic.records import MosaicGrid
from cosmosaic.survey import CatalogSettings, DrizzleSettings, SkySettings

SHAPE = (80, 120)
PLACES = [
    (0.0, 90.0), (137.25, 90.0), (33.0, -90.0), (10.0, 89.9999), (359.99, -89.999), (0.0, 0.0), (359.9999, -30.0),
    (14.77, -72.2),
]  # fmt: skip
LARGEST_ERROR_PIXELS = 0.01
STAR = (77.3, 41.6)

Points = NDArray[np.float64]


def lattice(shape: tuple[int, int], number: int = 15) -> Points:
    """Pixels (x, y) over an array and its edges."""
    x, y = (np.linspace(-0.5, length - 0.5, number) for length in shape[::-1])
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def apart_mas(first: Points, second: Points) -> float:
    return float(separations_deg(unit_vectors(first), unit_vectors(second)).max()) * 3.6e6


@pytest.fixture(scope="module")
def cal() -> Path:
    return real("cal/*_cal.fits")


@pytest.fixture(scope="module")
def trees() -> list[Path]:
    real("wcs/*.asdf")
    return sorted(FOLDER.glob("wcs/*.asdf"))


@pytest.fixture(params=PLACES, ids=str)
def window(request: pytest.FixtureRequest) -> MosaicGrid:
    """A window that holds the tangent point, or lies 2 degrees from it on a turned grid."""
    (ra, dec), is_far = request.param, PLACES.index(request.param) % 2
    rotation, crpix = (123.4, (-20000.5, 240000.5)) if is_far else (0.0, (50.5, 40.5))
    return MosaicGrid(tangent_ra=ra, tangent_dec=dec, rotation=rotation, pixel_scale_mas=30.0, crpix=crpix, shape=SHAPE)


@pytest.fixture
def mosaic(window: MosaicGrid, cal: Path, tmp_path: Path) -> Path:
    """A mosaic of noise and one star, written as the engine writes it, of an exposure that fills it."""
    corners = pixel_to_sky(window, [(-0.5, -0.5), (119.5, -0.5), (119.5, 79.5), (-0.5, 79.5)])
    region = region_text(tuple((float(ra), float(dec)) for ra, dec in corners))
    summary = summarise(read_exposure(cal), np.ones(3, np.float32)).model_copy(update={"s_region": region})
    y, x = np.indices(SHAPE)
    planes = np.ones((len(MOSAIC_PLANES), *SHAPE), dtype=">f4")
    planes[0] = np.random.default_rng(1).normal(size=SHAPE)
    planes[0] += 300 * np.exp(-0.5 * ((x - STAR[0]) ** 2 + (y - STAR[1]) ** 2) / 1.5**2)
    tile = write_tile(box_of(window), planes, tmp_path / "t_mosaic.packed")
    path = write_mosaic([tile], window, cal, [summary], DrizzleSettings(), tmp_path / "x_f444w_i2d.fits")
    stamp(path, "assemble", "key", (), ())
    return path


def check_wcs(path: Path, extension: str, window: MosaicGrid) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wcs = WCS(fits.getheader(path, extension))
    pixels = lattice(SHAPE)
    sky = pixel_to_sky(window, pixels)
    assert apart_mas(wcs.all_pix2world(pixels, 0), sky) < LARGEST_ERROR_PIXELS * window.pixel_scale_mas
    np.testing.assert_allclose(wcs.all_world2pix(sky, 0), pixels, atol=LARGEST_ERROR_PIXELS, rtol=0)


def test_every_product_on_a_grid_states_the_grids_own_wcs(mosaic: Path, window: MosaicGrid, tmp_path: Path) -> None:
    check_wcs(mosaic, "SCI", window)
    with datamodels.open(mosaic) as model:
        pixels = lattice(SHAPE)
        sky = np.stack(model.meta.wcs(*pixels.T, with_bounding_box=False), axis=-1)
        assert apart_mas(sky, pixel_to_sky(window, pixels)) < 1e-3
        back = np.stack(model.meta.wcs.invert(*sky.T, with_bounding_box=False), axis=-1)
        np.testing.assert_allclose(back, pixels, atol=1e-4, rtol=0)

    settings = CatalogSettings()
    psf = make_psf(mosaic, None, settings.background_box_arcsec, 1.0, "F444W", "x", tmp_path).files["psf"]
    made = measure_sources({"F444W": mosaic}, {"F444W": psf}, settings, "x", tmp_path).files
    check_wcs(made["segments"], "SEGM", window)
    table = Table.read(made["catalog"])
    row = table[np.argmax(table["peak_snr"])]
    position = np.array([(row["ra"], row["dec"])])
    assert apart_mas(position, pixel_to_sky(window, [STAR])) < 0.2 * window.pixel_scale_mas
    assert apart_mas(position, pixel_to_sky(window, [(row["x"], row["y"])])) < 0.3

    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    north, east = north_and_east(describe(mosaic))
    centre = pixel_to_sky(window, [middle])
    vector = unit_vectors(centre)[0]
    pole = np.array([0.0, 0.0, 1.0])
    for ahead, towards in ((north, pole - vector * vector[2]), (east, np.cross(pole, vector))):
        moved = unit_vectors(pixel_to_sky(window, [middle + 0.5 * np.array(ahead)]))[0] - vector
        cosine = moved @ towards / np.linalg.norm(moved) / np.linalg.norm(towards)
        assert cosine > 0.9999


def sip_inverse(header: fits.Header, sky: Points) -> Points:
    """Pixels by the inverse polynomials (AP, BP) alone, as ds9 and SExtractor compute them."""
    wcs = WCS(header)
    reference = np.array(wcs.wcs.crpix) - 1.0
    u, v = (wcs.wcs_world2pix(sky, 0) - reference).T

    def polynomial(matrix: Points) -> Points:
        return sum(matrix[i, j] * u**i * v**j for i in range(len(matrix)) for j in range(len(matrix)))

    return np.stack([u + polynomial(wcs.sip.ap), v + polynomial(wcs.sip.bp)], axis=-1) + reference


def check_exposure(header: fits.Header, wcs: object, shape: tuple[int, int]) -> None:
    pixels = lattice(shape)
    sky = np.stack(wcs(*pixels.T, with_bounding_box=False), axis=-1)
    pixel_mas = apart_mas(np.array([wcs(0, 0)]), np.array([wcs(1, 0)]))
    assert apart_mas(WCS(header).all_pix2world(pixels, 0), sky) < LARGEST_ERROR_PIXELS * pixel_mas
    np.testing.assert_allclose(WCS(header).all_world2pix(sky, 0), pixels, atol=LARGEST_ERROR_PIXELS, rtol=0)
    beside = np.hypot(*(sip_inverse(header, sky) - pixels).T).max()
    assert beside < 1.2 * header["SIPIVERR"] + 1e-4
    region, corners = region_corners(header["S_REGION"]), wcs_corners(wcs, shape)
    assert max(outside_arcsec(region, corners), outside_arcsec(corners, region)) < 1e-5


def headers_that_were_left_behind(info: dict[str, object]) -> Iterator[fits.Header]:
    """As the file had it, of another place, without distortion, and without a WCS."""
    sci = fits.Header({"NAXIS": 2, "NAXIS1": 2048, "NAXIS2": 2048})
    yield sci
    known = sci.copy()
    for name, value in info.items():
        if isinstance(value, str | float | int):
            known[name.upper()[:8]] = value
    yield known
    shifted = known.copy()
    shifted["CRVAL2"] += 1e-5
    yield shifted
    linear = known.copy()
    for keyword in [keyword for keyword in known if keyword[:2] in ("A_", "B_", "AP", "BP")]:
        del linear[keyword]
    linear["CTYPE1"], linear["CTYPE2"] = "RA---TAN", "DEC--TAN"
    yield linear


@pytest.mark.slow
def test_an_exposure_gets_the_fits_wcs_of_its_gwcs(trees: list[Path]) -> None:
    warnings.simplefilter("ignore", asdf.exceptions.AsdfPackageVersionWarning)
    for path in trees[::7]:
        with asdf.open(path) as tree:
            wcs, info = tree["wcs"], dict(tree["wcsinfo"])
            for sci in headers_that_were_left_behind(info):
                check_exposure(with_agreeing_wcs(wcs, sci), wcs, (2048, 2048))
            # What agrees already stays as it is.
            agreed = with_agreeing_wcs(wcs, sci)
            assert with_agreeing_wcs(wcs, agreed).tostring() == agreed.tostring()


@pytest.mark.parametrize("engine", ["tiles", "jwst"])
def test_a_published_exposure_states_the_wcs_that_it_was_combined_with(cal: Path, tmp_path: Path, engine: str) -> None:
    source = tmp_path / cal.name
    with fits.open(cal, memmap=False) as hdus:
        hdus["SCI"].header["CRVAL1"] += 0.3 / 3600
        hdus["SCI"].header["S_REGION"] = "POLYGON ICRS 1 1 2 1 2 2"
        hdus.writeto(source)
    exposure = read_exposure(source)
    crf = tmp_path / cal.name.replace("_cal", "_crf")
    if engine == "tiles":
        write_flagged(source, exposure, 0.0, SkySettings(), crf, "COMPLETE")
    else:
        with datamodels.open(source) as model:
            model.save(crf)
        make_fits_wcs_agree(crf)
    check_exposure(fits.getheader(crf, "SCI"), exposure.wcs, exposure.shape)
    with datamodels.open(crf) as model:
        assert model.meta.wcs(50, 50) == exposure.wcs(50, 50)
