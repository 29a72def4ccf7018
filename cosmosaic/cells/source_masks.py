"""The user's masks of sources for a second pass: segmentation maps or masks on any image with a WCS.

The sky is measured on cells eight pixels wide; sources too faint or too small to stand out on them stay in them. The
segmentation map of an earlier mosaic has the sources pixel by pixel.
"""

from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from cosmosaic.geometry.sphere import Footprint, touches

SETTING = "sky.source_masks"


class SourceMaskError(ValueError):
    """A mask of sources cannot be used; the message names it, the fault and the remedy."""


class MaskImage(NamedTuple):
    """The image of a mask."""

    hdu: fits.ImageHDU
    """Sources are its pixels that are not 0."""
    wcs: Any
    """An `astropy.wcs.WCS`."""

    def pixels_of(self, sky: ArrayLike) -> NDArray[np.float64]:
        """Convert directions (RA, Dec) in degrees, ICRS, to 0-based pixels (x, y); shape ``(N, 2)`` both."""
        import astropy.units as u
        from astropy.coordinates import SkyCoord

        ra, dec = np.asarray(sky, dtype=np.float64).T
        return np.stack(self.wcs.world_to_pixel(SkyCoord(ra, dec, unit=u.deg, frame="icrs")), axis=1)


def mask_image(hdus: fits.HDUList, name: str) -> MaskImage:
    """Find the image of a mask: the first with two axes.

    Raises
    ------
    SourceMaskError
        There is no image, it has no celestial WCS, or its pixels are not integers.
    """
    hdu = next((hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2), None)
    if hdu is None:
        raise SourceMaskError(f"{name}: no two-dimensional image; {SETTING} takes segmentation maps or masks")
    if hdu.header["BITPIX"] < 0:
        raise SourceMaskError(
            f"{name}: BITPIX = {hdu.header['BITPIX']}, but a mask has integers, 0 on the sky; give {SETTING} a "
            f"segmentation map (_segm.fits), not a mosaic"
        )
    # Not at the top, which the flow's own process imports.
    from astropy.wcs import WCS

    wcs = WCS(hdu.header)
    if not wcs.has_celestial:
        raise SourceMaskError(
            f"{name}: no celestial WCS in the header of its image, so it cannot be laid on exposures; copy the WCS "
            f"keywords of the mosaic it was made of"
        )
    return MaskImage(hdu, wcs)


def reached_exposures(stream: BinaryIO, name: str, footprints: Mapping[str, Footprint]) -> tuple[str, ...]:
    """Return the names of the exposures that a mask may cover; only the headers of its file are read.

    Parameters
    ----------
    stream
        The mask's file.
    name
        Its name in messages.
    footprints
        Footprint of each exposure by its name.

    Raises
    ------
    SourceMaskError
        It is not a mask, or reaches no exposure.
    """
    try:
        with fits.open(stream) as hdus:
            mask = mask_image(hdus, name)
            shape = mask.hdu.shape
    except OSError as error:
        raise SourceMaskError(f"{name}: not a FITS file ({error}); {SETTING} takes FITS images with a WCS") from error
    reached = tuple(each for each, footprint in footprints.items() if touches(mask.pixels_of(footprint), shape))
    if not reached:
        raise SourceMaskError(
            f"{name}: reaches none of {len(footprints)} exposures of its filter; check its WCS, and the filter that "
            f"{SETTING} gives it for"
        )
    return reached
