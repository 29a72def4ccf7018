"""The PSF of a detector, from the user's file: one image, or a grid of images over the detector."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import galsim
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cosmosaic.catalog.psf import LARGEST_SUM, LEAST_SUM, interpolated, read_image

WITHOUT_PIXEL = ("OVERDIST", "OVERSAMP")
"""Extensions in which STPSF leaves out the detector's pixel, the first preferred: it has the distortion."""

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


def read_detector_psf(path: Path) -> DetectorPsf:
    """Read the PSF of a detector.

    Parameters
    ----------
    path
        FITS file, one of these: a grid of PSFs of STPSF (``psf_grid``); a result of its ``calc_psf``, of which OVERDIST
        or else OVERSAMP is used, averaged over the detector's pixel; or any image with the keyword PIXSCALE or PIXELSCL
        (arcsec), the detector's pixel included.

    Raises
    ------
    ValueError
        It is none of them, or its sum is not 1.
    """
    with fits.open(path) as hdus:
        first = next((hdu for hdu in hdus if hdu.is_image and hdu.data is not None), None)
        if first is not None and first.data.ndim == 3:
            return _grid_of(first.data, first.header, path)
    image, scale, header = read_image(path, WITHOUT_PIXEL)
    if header.get("EXTNAME") in WITHOUT_PIXEL:
        if "DET_SAMP" not in header:
            raise ValueError(
                f"{path}: no DET_SAMP in {header['EXTNAME']}, which tells the size of the detector's pixel"
            )
        image = _averaged(image, float(header["DET_SAMP"]))
    return DetectorPsf(image[None, None], np.zeros(1), np.zeros(1), scale, "arcsec")


def _averaged(image: Floats, samples: float) -> Floats:
    """Average over the detector's pixel, whose side is given in the image's."""
    profile = galsim.Convolve(interpolated(image, 1.0).withFlux(image.sum()), galsim.Pixel(samples))
    drawn = profile.drawImage(nx=image.shape[1], ny=image.shape[0], scale=1.0, method="no_pixel", dtype=float)
    return drawn.array


def _grid_of(data: NDArray[np.floating], header: fits.Header, path: Path) -> DetectorPsf:
    """Arrange the images of STPSF's ``psf_grid`` by their places, which photutils before 3.1 takes for (x, y)."""
    keys = [f"DET_YX{number}" for number in range(len(data))]
    missing = [key for key in (*keys, "OVERSAMP") if key not in header]
    if missing:
        raise ValueError(f"{path}: no {missing[0]} in the header; give a grid of PSFs as STPSF's psf_grid writes it")
    y, x = np.array([[float(value) for value in header[key].strip("() ").split(",")] for key in keys]).T
    rows, columns = np.unique(y), np.unique(x)
    if len(rows) * len(columns) != len(data):
        raise ValueError(f"{path}: the {len(data)} places of the PSFs (DET_YX) are no grid of rows and columns")
    oversampling = float(header["OVERSAMP"])
    images = np.asarray(data, float)[np.lexsort((x, y))]
    total = float(np.median(images.sum(axis=(1, 2))))
    if total > LARGEST_SUM:
        # As photutils wants them, the values are those of whole pixels.
        images, total = images / oversampling**2, total / oversampling**2
    if not np.isfinite(images).all() or not LEAST_SUM < total < LARGEST_SUM:
        raise ValueError(f"{path}: images with a sum of {total:.3g}; give a sum of 1, all values finite")
    shaped = images.reshape(len(rows), len(columns), *images.shape[1:])
    return DetectorPsf(shaped, rows, columns, 1.0 / oversampling, "pixel")
