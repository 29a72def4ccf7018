"""Synthetic mosaics with a known truth, written as jwst's resample writes them."""

from dataclasses import dataclass, field
from pathlib import Path

import galsim
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from drizzle.resample import Drizzle
from numpy.typing import NDArray

from cosmosaic.catalog.detection import Detection, detect, prepare
from cosmosaic.catalog.image import NJY_PER_MJY, MosaicImage
from cosmosaic.catalog.measure import Catalog, measure_window
from cosmosaic.catalog.psf import Psf
from cosmosaic.survey import CatalogSettings

SCALE = 0.03
"""Pixel scale in arcsec."""
PIXEL_AREA_SR = (SCALE / 206264.80624709636) ** 2
NJY_PER_COUNT = PIXEL_AREA_SR * NJY_PER_MJY
"""Flux in nJy of one pixel of 1 MJy/sr."""


def tangent_wcs(shape: tuple[int, int], rotation: float = 0.0) -> WCS:
    """A tangent plane with 30 mas pixels whose +y axis has this position angle in degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.1163213, 2.200973097]
    wcs.wcs.crpix = [shape[1] / 2 + 0.5, shape[0] / 2 + 0.5]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    return wcs


@dataclass
class Scene:
    """An image to which sources and noise are added, in MJy/sr."""

    shape: tuple[int, int] = (400, 400)
    sigma: float = 0.01
    """Standard error per pixel."""
    psf: galsim.GSObject = field(default_factory=lambda: galsim.Gaussian(fwhm=0.06))
    rotation: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        self.sci = np.zeros(self.shape)
        self.err = np.full(self.shape, self.sigma)
        self.wht = np.full(self.shape, 4.0)
        self.dq = np.zeros(self.shape, np.uint32)
        self.random = np.random.default_rng(self.seed)

    @property
    def wcs(self) -> WCS:
        return tangent_wcs(self.shape, self.rotation)

    def add(self, profile: galsim.GSObject, flux_njy: float, x: float, y: float) -> None:
        """Add a profile, convolved with the PSF, at the 0-based pixel (x, y)."""
        image = galsim.ImageD(self.sci, xmin=0, ymin=0, scale=SCALE)
        source = galsim.Convolve(profile, self.psf).withFlux(flux_njy / NJY_PER_COUNT)
        stamp = source.drawImage(scale=SCALE, center=galsim.PositionD(x, y), dtype=float)
        overlap = stamp.bounds & image.bounds
        image[overlap] += stamp[overlap]

    def add_star(self, flux_njy: float, x: float, y: float) -> None:
        """Add a star at the 0-based pixel (x, y)."""
        self.add(galsim.Gaussian(fwhm=1e-4), flux_njy, x, y)

    def add_white_noise(self) -> None:
        self.sci = self.sci + self.random.normal(0.0, self.err)

    def remove(self, rows: slice, columns: slice) -> None:
        """Take the data of some pixels away."""
        self.sci[rows, columns] = np.nan
        self.err[rows, columns] = np.nan
        self.wht[rows, columns] = 0.0

    def write(self, path: Path) -> Path:
        header = self.wcs.to_header()
        header["BUNIT"] = "MJy/sr"
        header["PIXAR_SR"] = PIXEL_AREA_SR
        planes = {"SCI": self.sci, "ERR": self.err, "WHT": self.wht}
        images = [fits.ImageHDU(plane.astype(np.float32), header=header, name=name) for name, plane in planes.items()]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
        return path


def drizzled_noise(shape: tuple[int, int], native_scale: float, sigma: float, seed: int) -> NDArray[np.float32]:
    """Drizzle four dithered, rotated exposures of independent noise onto 30 mas pixels.

    The exposures' noise is such that jwst's ERR, which is divided by the ratio of the pixel scales, equals ``sigma``.
    """
    random = np.random.default_rng(seed)
    ratio = SCALE / native_scale
    native = tuple(int(length * ratio) + 12 for length in shape)
    mosaic = Drizzle(kernel="square", out_shape=shape)
    for angle in np.radians([0.0, 1.3, 2.1, -1.7]):
        y, x = np.indices(native, dtype=float)
        x, y = x - native[1] / 2 + random.random(), y - native[0] / 2 + random.random()
        turned = (np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y)
        pixmap = np.dstack([turned[0] / ratio + shape[1] / 2, turned[1] / ratio + shape[0] / 2])
        noise = random.normal(0.0, 2.0 * sigma * ratio, native).astype(np.float32)
        mosaic.add_image(noise, exptime=1.0, pixmap=pixmap, pixfrac=1.0, weight_map=np.ones(native, np.float32))
    return mosaic.out_img


def mosaic_image(scene: Scene) -> MosaicImage:
    """The mosaic of a scene without a file."""
    planes = [plane.astype(np.float32) for plane in (scene.sci, scene.err, scene.wht)]
    return MosaicImage(*planes, valid=np.isfinite(scene.sci), wcs=scene.wcs, pixel_area_sr=PIXEL_AREA_SR, dq=scene.dq)


def psf_of(scene: Scene) -> Psf:
    """The PSF of a scene on its pixels."""
    image = scene.psf.drawImage(nx=201, ny=201, scale=SCALE, dtype=float).array
    return Psf(image, SCALE, "file")


def detect_in(scene: Scene, **settings: float) -> Detection:
    """Detect the sources of a scene in one filter."""
    wanted = CatalogSettings(**settings)
    return detect(
        {"F150W": prepare(mosaic_image(scene), wanted.background_box_arcsec)}, {"F150W": psf_of(scene)}, wanted
    )


def measure(*scenes: Scene, bands: tuple[str, ...] = ("F150W", "F277W", "F444W"), **settings: object) -> Catalog:
    """Measure scenes of one window in several filters."""
    named = dict(zip(bands, scenes, strict=False))
    images = {band: mosaic_image(scene) for band, scene in named.items()}
    return measure_window(images, {band: psf_of(scene) for band, scene in named.items()}, CatalogSettings(**settings))
