"""Windows with catalogues of known content, on mosaics and maps of depths of known content."""

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from cosmosaic.catalog.columns import as_table, column_specs
from cosmosaic.catalog.files import arrow_table
from cosmosaic.survey import CatalogSettings

SKY, SIGMA = 0.2, 0.01
"""Of mosaics, MJy/sr."""
PIXEL_ARCSEC = 0.03


@dataclass(frozen=True)
class Window:
    """The files of one window."""

    name: str
    catalog: Path
    mosaics: dict[str, Path]
    depths: dict[str, Path]
    psfs: dict[str, Path]


def random_columns(number: int, bands: tuple[str, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of galaxies, and a tenth of stars, of magnitudes 20 to 29 with the noise of a depth of 28 at 5 sigma."""
    generator = np.random.default_rng(seed)
    specs = column_specs(bands, CatalogSettings())
    columns = {
        name: np.zeros(number, dtype="U24" if spec.dtype == "str" else spec.dtype) for name, spec in specs.items()
    }
    star = generator.random(number) < 0.1
    magnitude = 29.0 - 9.0 * generator.random(number) ** 2
    columns |= {
        "id": np.arange(1, number + 1),
        "name": np.array([f"J{place:06d}" for place in range(number)], dtype="U24"),
        "ra": 150.0 + generator.random(number) / 60,
        "dec": 2.0 + generator.random(number) / 60,
        "x": 50 + 100 * generator.random(number),
        "y": 50 + 100 * generator.random(number),
        "half_light_radius": np.where(star, 0.05, 0.1 + 0.2 * generator.random(number)),
        "concentration": np.where(star, generator.normal(1.0, 0.02, number), 0.3 + 0.4 * generator.random(number)),
        "star_probability": np.where(star, 0.92, 0.0),
        "peak_snr": np.full(number, 50.0),
        "flags": np.zeros(number, np.int64),
    }
    error = (28.0 * u.ABmag).to_value(u.nJy) / 5
    for place, band in enumerate(bands):
        true = ((magnitude - 0.2 * place * ~star) * u.ABmag).to_value(u.nJy)
        set_flux(columns, band, true + generator.normal(0.0, error, number), np.full(number, error))
    return columns


def set_flux(columns: dict[str, np.ndarray], band: str, flux: np.ndarray, error: np.ndarray) -> None:
    """Set flux, error and magnitude of a filter, as the catalogue relates them."""
    prefix = band.lower()
    columns[f"{prefix}_flux"], columns[f"{prefix}_flux_err"] = flux, error
    with np.errstate(invalid="ignore", divide="ignore"):
        columns[f"{prefix}_mag"] = np.where(flux > 0, -2.5 * np.log10(flux) + 31.4, np.nan)


def catalog_table(columns: dict[str, np.ndarray], bands: tuple[str, ...]) -> Table:
    """The catalogue of some columns; what is not finite is null."""
    return as_table(column_specs(bands, CatalogSettings()), columns)


def write_window(
    folder: Path,
    name: str,
    columns: dict[str, np.ndarray],
    bands: tuple[str, ...],
    factors: dict[str, int] | None = None,
    shape: tuple[int, int] = (200, 200),
) -> Window:
    """Write a window: depths rise by a magnitude from the left to the right, the outer tenth has no data.

    Parameters
    ----------
    factors
        Size of each filter's pixels in units of the finest; by default 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    catalog = folder / f"{name}_cat.parquet"
    pq.write_table(arrow_table(catalog_table(columns, bands)), catalog)
    window = Window(name, catalog, {}, {}, {})
    for number, band in enumerate(bands):
        factor = (factors or {}).get(band, 1)
        rows, columns_ = (length // factor for length in shape)
        header = wcs(factor).to_header()
        inside = np.ones((rows, columns_), bool)
        inside[:, : columns_ // 10] = False
        generator = np.random.default_rng(number)
        sci = np.where(inside, generator.normal(SKY, SIGMA, inside.shape), np.nan).astype(np.float32)
        header["BUNIT"], header["PIXAR_SR"] = "MJy/sr", float((PIXEL_ARCSEC * factor * u.arcsec).to_value(u.rad)) ** 2
        planes = {"SCI": sci, "ERR": np.where(inside, SIGMA, np.nan), "WHT": inside.astype(float)}
        hdus = [fits.ImageHDU(plane.astype(np.float32), header=header, name=key) for key, plane in planes.items()]
        window.mosaics[band] = folder / f"{name}_{band}_i2d.fits"
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(window.mosaics[band], overwrite=True)
        depth = np.where(inside, 27.0 + number + np.linspace(0, 1, columns_), np.nan).astype(np.float32)
        window.depths[band] = folder / f"{name}_{band}_depth.fits"
        image = fits.ImageHDU(depth, header=wcs(factor).to_header(), name="DEPTH")
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(window.depths[band], overwrite=True)
        psf = fits.PrimaryHDU(np.ones((3, 3), np.float32))
        psf.header["FWHM"], psf.header["PSFFROM"] = 0.05 + 0.01 * number, "stars"
        window.psfs[band] = folder / f"{name}_{band}_psf.fits"
        psf.writeto(window.psfs[band], overwrite=True)
    return window


def wcs(factor: int) -> WCS:
    """A tangent plane whose pixels nest in those of factor 1."""
    plane = WCS(naxis=2)
    plane.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    plane.wcs.crval = [150.0, 2.0]
    plane.wcs.cdelt = [-PIXEL_ARCSEC * factor / 3600, PIXEL_ARCSEC * factor / 3600]
    plane.wcs.crpix = [(100.0 - 0.5) / factor + 0.5] * 2
    return plane
