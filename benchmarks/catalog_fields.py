"""Simulated mosaics of known sources: what `benchmarks/catalog.py` measures on.

The mosaics are drawn directly on the survey's pixels: Sersic galaxies and stars under the simulator's PSF, on noise
that four dithered exposures leave in drizzled pixels, with the Poisson noise of the sources.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import astropy.units as u
import galsim
import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from drizzle.resample import Drizzle
from numpy.typing import NDArray

from cosmosaic.nircam import DRAWN_LONG_PIXEL_ARCSEC, DRAWN_SHORT_PIXEL_ARCSEC, is_long_wavelength
from cosmosaic.simulate.psf import effective_psf

FILTERS = ("F115W", "F150W", "F277W", "F444W")
SCALE = 0.03
NJY_PER_COUNT = (SCALE / 206264.80624709636) ** 2 * 1e15
NOISE_NJY = 0.33
"""Standard error of a pixel: 28.5 mag at 5 sigma in 0.15 arcsec radius."""
ELECTRONS_PER_NJY = 130.0
DITHERS_DEG = (0.0, 1.3, 2.1, -1.7)
PSF_RADIUS_PIXELS = 200
STARS, GALAXIES = 220.0, 120.0
"""Per square arcminute."""
BRIGHTEST_STAR, FAINTEST = 18.5, 30.0
DRAWING = galsim.GSParams(folding_threshold=0.02, maximum_fft_size=16384)


@dataclass(frozen=True)
class Field:
    """One simulated field on disk."""

    folder: Path
    mosaics: dict[str, Path]
    """By filter."""
    psfs: dict[str, Path]
    """The true PSF of the mosaics, by filter."""
    truth: Table
    """x, y (0-based pixels), ra, dec, kind, sersic_n, half_light_radius (arcsec), axis_ratio, flux_<filter> (nJy)."""
    uneven: bool


def native_pixel(band: str) -> float:
    """Pixel scale of a filter's detectors in arcsec."""
    return DRAWN_LONG_PIXEL_ARCSEC if is_long_wavelength(band) else DRAWN_SHORT_PIXEL_ARCSEC


@cache
def mosaic_psf(band: str) -> galsim.GSObject:
    """The PSF of a mosaic: optics and detector pixel, drizzled as squares onto the mosaic's pixels."""
    native = native_pixel(band)
    psf = effective_psf(band, native)
    optics = galsim.InterpolatedImage(
        galsim.ImageD(psf.image, scale=psf.scale_arcsec), x_interpolant="quintic", flux=1.0, gsparams=DRAWING
    )
    drizzled = galsim.Convolve(optics, galsim.Pixel(native), galsim.Pixel(SCALE), gsparams=DRAWING)
    fine = drizzled.drawImage(nx=1601, ny=1601, scale=0.01, method="no_pixel", dtype=float)
    return galsim.InterpolatedImage(fine, x_interpolant="quintic", gsparams=DRAWING)


def make_field(folder: Path, seed: int, side: int = 2000, uneven: bool = False) -> Field:
    """Make a field, or open it if it was made before."""
    kind = "uneven" if uneven else "even"
    here = folder / f"field_{kind}_{side}_{seed}"
    mosaics = {band: here / f"{band.lower()}_i2d.fits" for band in FILTERS}
    psfs = {band: here / f"{band.lower()}_psf.fits" for band in FILTERS}
    if not (here / "truth.ecsv").exists():
        here.mkdir(parents=True, exist_ok=True)
        truth = _draw_sources(np.random.default_rng(seed), side)
        for number, band in enumerate(FILTERS):
            _write_mosaic(mosaics[band], band, truth, np.random.default_rng([seed, number]), side, uneven)
            _write_psf(psfs[band], band)
        truth.write(here / "truth.ecsv")
    return Field(here, mosaics, psfs, Table.read(here / "truth.ecsv"), uneven)


def _draw_sources(random: np.random.Generator, side: int) -> Table:
    area = (side * SCALE / 60.0) ** 2
    stars, galaxies = int(STARS * area), int(GALAXIES * area)
    number = stars + galaxies
    is_star = np.arange(number) < stars
    magnitude = np.where(
        is_star,
        np.where(
            random.random(number) < 0.5,
            random.uniform(BRIGHTEST_STAR, 27.0, number),
            random.uniform(27.0, FAINTEST, number),
        ),
        20.0 + (FAINTEST - 20.0) * random.random(number) ** 0.6,
    )
    radius = np.clip(0.35 * 10 ** (-0.10 * (magnitude - 23.0)) * random.lognormal(0.0, 0.5, number), 0.05, 1.5)
    index = np.where(random.random(number) < 0.6, 1.0, 4.0)
    truth = Table(
        {
            "x": random.uniform(20, side - 20, number),
            "y": random.uniform(20, side - 20, number),
            "kind": np.where(is_star, "star", "galaxy"),
            "sersic_n": np.where(is_star, np.nan, index),
            "half_light_radius": np.where(is_star, np.nan, radius),
            "axis_ratio": np.where(is_star, np.nan, random.uniform(0.3, 1.0, number)),
            "angle": random.uniform(0, 180, number),
        }
    )
    colour = random.normal(0.0, 0.5, number)
    for step, band in zip((-0.5, -0.3, 0.2, 0.5), FILTERS, strict=True):
        truth[f"flux_{band}"] = ((magnitude - step * colour) * u.ABmag).to_value(u.nJy)
    sky = tangent_wcs(side).pixel_to_world(truth["x"], truth["y"])
    truth["ra"], truth["dec"] = sky.ra.deg, sky.dec.deg
    return truth


def tangent_wcs(side: int) -> WCS:
    """The WCS of the fields."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.1163213, 2.200973097]
    wcs.wcs.crpix = [side / 2 + 0.5] * 2
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    return wcs


def _light(band: str, truth: Table, side: int) -> NDArray[np.float64]:
    """The sources without noise, in nJy per pixel."""
    image = galsim.ImageD(side, side, xmin=0, ymin=0, scale=SCALE)
    psf = mosaic_psf(band)
    for row in truth:
        flux = float(row[f"flux_{band}"])
        profile, reach = psf, 40.0 + 30.0 * np.sqrt(flux / 100.0)
        if row["kind"] == "galaxy":
            major = row["half_light_radius"]
            shape = galsim.Sersic(row["sersic_n"], half_light_radius=1.0, trunc=8.0, gsparams=DRAWING).dilate(
                major * np.sqrt(row["axis_ratio"])
            )
            sheared = shape.shear(q=row["axis_ratio"], beta=row["angle"] * galsim.degrees)
            profile, reach = galsim.Convolve(sheared, psf, gsparams=DRAWING), reach + 8.5 * major / SCALE
        reach = min(int(reach), 400)
        centre = galsim.PositionD(row["x"], row["y"])
        near = galsim.BoundsI(*(round(v) + s * reach for v in (row["x"], row["y"]) for s in (-1, 1)))
        bounds = image.bounds & near
        (profile * flux).drawImage(image=image[bounds], center=centre, method="no_pixel", add_to_image=True)
    return image.array


def _drizzled_noise(random: np.random.Generator, side: int, native: float) -> NDArray[np.float32]:
    """Four dithered exposures of independent noise on the mosaic's pixels, in units of jwst's ERR."""
    ratio = SCALE / native
    width = int(side * ratio) + 80
    mosaic = Drizzle(kernel="square", out_shape=(side, side))
    for angle in np.radians(DITHERS_DEG):
        y, x = np.indices((width, width), dtype=float)
        x, y = x - width / 2 + random.random(), y - width / 2 + random.random()
        turned = (np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y)
        pixmap = np.dstack([turned[0] / ratio + side / 2, turned[1] / ratio + side / 2])
        noise = random.normal(0.0, np.sqrt(len(DITHERS_DEG)) * ratio, (width, width)).astype(np.float32)
        mosaic.add_image(noise, exptime=1.0, pixmap=pixmap, pixfrac=1.0, weight_map=np.ones_like(noise))
    return mosaic.out_img


def _depth(side: int, uneven: bool) -> NDArray[np.float32]:
    """Number of exposures."""
    if not uneven:
        return np.full((side, side), 4.0, np.float32)
    return np.repeat(np.array([2, 4, 8, 3], np.float32), side // 4)[None, :] * np.ones((side, 1), np.float32)


def _write_mosaic(path: Path, band: str, truth: Table, random: np.random.Generator, side: int, uneven: bool) -> None:
    depth = _depth(side, uneven)
    light = _light(band, truth, side)
    sky = NOISE_NJY * np.sqrt(4.0 / depth)
    poisson = np.maximum(light, 0.0) / ELECTRONS_PER_NJY * 4.0 / depth
    noise_of_sky = _drizzled_noise(random, side, native_pixel(band))
    noise = sky * noise_of_sky + np.sqrt(poisson) * random.normal(size=light.shape)
    header = tangent_wcs(side).to_header()
    header["BUNIT"], header["PIXAR_SR"] = "MJy/sr", NJY_PER_COUNT / 1e15
    planes = {
        "SCI": (light + noise) / NJY_PER_COUNT,
        "ERR": np.sqrt(sky**2 + poisson) / NJY_PER_COUNT,
        "WHT": depth / (4.0 * NOISE_NJY**2),
        "NEXP": depth,
        "NOISE": sky * noise_of_sky / NJY_PER_COUNT,
    }
    images = [fits.ImageHDU(plane.astype(np.float32), header=header, name=name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)


def _write_psf(path: Path, band: str) -> None:
    side = 2 * PSF_RADIUS_PIXELS + 1
    image = mosaic_psf(band).drawImage(nx=side, ny=side, scale=SCALE, method="no_pixel", dtype=float).array
    header = fits.Header({"PIXSCALE": SCALE})
    fits.PrimaryHDU(image.astype(np.float32), header=header).writeto(path, overwrite=True)
