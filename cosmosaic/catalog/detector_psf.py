"""The PSF of a detector, from the user's file: one image, or a grid of images over the detector."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import galsim
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cosmosaic.catalog.psf import FEWEST_PIXELS, LARGEST_SUM, LEAST_SUM, WITHOUT_PIXEL, interpolated, read_image
from cosmosaic.nircam import band_name

SORTED_SINCE = (1, 3)
"""Version of WebbPSF, later STPSF."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DetectorPsf:
    """The light of a star of flux 1 in a detector's pixel at every offset, along the detector's axes."""

    images: Floats
    """At each place, shape ``(rows, columns, ny, nx)``; the sum of each is the light within."""
    rows: Floats
    columns: Floats
    """Places of the images, 0-based pixels of the detector, ascending."""
    scale: float
    """Side of a pixel of the images."""
    unit: Literal["arcsec", "pixel"]
    """Of the scale: of the sky, or of the detector."""
    detector: str = ""
    """The detector that the file names, if it names one."""

    def at(self, x: float, y: float) -> galsim.GSObject:
        """Return the PSF at a place of the detector, between those of the images linearly.

        Parameters
        ----------
        x, y
            0-based pixel; beyond the outer images, theirs are used.
        """
        if self.images.shape[:2] == (1, 1):
            return self._everywhere
        weights = (
            np.array([np.interp(place, places, one) for one in np.eye(len(places))])
            for place, places in ((y, self.rows), (x, self.columns))
        )
        return self._profile(np.einsum("r,c,rcyx->yx", *weights, self.images))

    def in_part(self, column: int, row: int) -> Self:
        """Count places from a pixel, the first of a subarray."""
        return replace(self, rows=self.rows - row, columns=self.columns - column)

    @cached_property
    def _everywhere(self) -> galsim.GSObject:
        return self._profile(self.images[0, 0])

    def _profile(self, image: Floats) -> galsim.GSObject:
        return interpolated(image, self.scale).withFlux(image.sum())


def read_detector_psf(path: Path, band: str) -> DetectorPsf:
    """Read the PSF of a detector.

    Parameters
    ----------
    path
        FITS file, one of these: a grid of PSFs of STPSF (``psf_grid``); a result of its ``calc_psf``, of which OVERDIST
        or OVERSAMP is used, averaged over the detector's pixel, or else DET_DIST; or any image with the keyword
        PIXSCALE or PIXELSCL (arcsec), the detector's pixel included.
    band
        The filter.

    Raises
    ------
    ValueError
        It is none of them, its sum is not 1, or it is of another filter.
    """
    with fits.open(path) as hdus:
        first = next((hdu for hdu in hdus if hdu.is_image and hdu.data is not None), None)
        told, detector = (str(hdus[0].header.get(name, "")).strip() for name in ("FILTER", "DETECTOR"))
        if told and band_name(told) != band:
            raise ValueError(f"{path}: its FILTER is {told}, but it is given for {band}")
        if first is not None and first.data.ndim == 3:
            return _grid_of(first.data, first.header, detector, path)
    image, scale, header = read_image(path, (*WITHOUT_PIXEL, "DET_DIST"))
    if header.get("EXTNAME") in WITHOUT_PIXEL:
        if "DET_SAMP" not in header:
            raise ValueError(f"{path}: no DET_SAMP in {header['EXTNAME']}, the side of the detector's pixel in its own")
        image = _averaged(image, float(header["DET_SAMP"]))
    return DetectorPsf(image[None, None], np.zeros(1), np.zeros(1), scale, "arcsec", detector)


def _averaged(image: Floats, samples: float) -> Floats:
    """Average over the detector's pixel, whose side is given in the image's."""
    profile = galsim.Convolve(interpolated(image, 1.0).withFlux(image.sum()), galsim.Pixel(samples))
    drawn = profile.drawImage(nx=image.shape[1], ny=image.shape[0], scale=1.0, method="no_pixel", dtype=float)
    return drawn.array


def _grid_of(data: NDArray[np.floating], header: fits.Header, detector: str, path: Path) -> DetectorPsf:
    """Arrange the images of STPSF's ``psf_grid`` by their places."""
    keys = [f"DET_YX{number}" for number in range(len(data))]
    try:
        y, x = np.array([[float(value) for value in header[key].strip("() ").split(",")] for key in keys]).T
        samples = data.shape[-1] / float(header["FOVPIXEL"]) if "FOVPIXEL" in header else float(header["OVERSAMP"])
    except (KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: no grid of PSFs as STPSF's psf_grid writes it, with DET_YX0 and so on, and OVERSAMP ({error})"
        ) from error
    rows, columns = np.unique(y), np.unique(x)
    if len(rows) * len(columns) != len(data):
        raise ValueError(f"{path}: the {len(data)} places of the PSFs (DET_YX) are no grid of rows and columns")
    images = np.asarray(data, float)
    if not _is_sorted(header):
        images = images[np.lexsort((x, y))]
    sums = images.sum(axis=(1, 2))
    if np.median(sums) > LARGEST_SUM:
        # As photutils wants them, the values are those of whole pixels.
        images, sums = images / samples**2, sums / samples**2
    worst = sums[np.argmax(np.abs(sums - 1.0))] if np.isfinite(images).all() else np.nan
    if min(data.shape[1:]) < FEWEST_PIXELS or not LEAST_SUM < worst < LARGEST_SUM:
        raise ValueError(
            f"{path}: images of {data.shape[1:]} pixels, one with a sum of {worst:.3g} in the detector's; give "
            f"{FEWEST_PIXELS} a side or more, all finite, and a sum of 1"
        )
    shaped = images.reshape(len(rows), len(columns), *images.shape[1:])
    return DetectorPsf(shaped, rows, columns, 1.0 / samples, "pixel", detector)


def _is_sorted(header: fits.Header) -> bool:
    """Return whether the images are in the order of rows and columns, whatever that of the header.

    STPSF, and WebbPSF from 1.3 on, write the images that photutils has sorted so, with the header of before.
    """
    version = re.match(r"(\d+)\.(\d+)", str(header.get("VERSION", "")))
    return version is not None and tuple(map(int, version.groups())) >= SORTED_SINCE
