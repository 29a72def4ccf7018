"""Stars and Sersic galaxies drawn on the pixels of a detector, each on a stamp of its own."""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, Self

import galsim
import numpy as np
from astropy.table import Row
from numpy.typing import NDArray
from scipy import ndimage, special

from cosmosaic.simulate.scene import TRUNCATION_RADII

FAINTEST_WING_NJY = 3e-3
"""A source is drawn to the radius where it falls below this in a pixel, a thousandth of a survey exposure's noise."""
DRAWING = galsim.GSParams(folding_threshold=0.02, maximum_fft_size=16384)
"""Stamps are wider than the folds."""


class Stamp(NamedTuple):
    """A source to be drawn on the detector."""

    profile: galsim.GSObject
    x: float
    y: float
    reach_pixels: float
    jacobian: NDArray[np.floating]


class PsfEnvelope(NamedTuple):
    """The largest brightness of a PSF at or beyond some radii."""

    radii: NDArray[np.floating]
    """Arcsec, outermost first."""
    brightest: NDArray[np.floating]
    """Per square arcsec."""

    @classmethod
    def of(cls, image: NDArray[np.floating], scale_arcsec: float) -> Self:
        """Measure the envelope of an image with odd sides, centred on the middle pixel."""
        centre = image.shape[0] // 2
        offset = np.arange(image.shape[0]) - centre
        ring = np.hypot(offset, offset[:, None]).astype(int)
        brightest = ndimage.maximum(image, ring, np.arange(centre + 1)) / scale_arcsec**2
        return cls(np.arange(centre, -1, -1) * scale_arcsec, np.maximum.accumulate(brightest[::-1]))

    def reach_arcsec(self, flux: float, pixel_scale: float) -> float:
        """Return the radius within which pixels get more than `FAINTEST_WING_NJY` from a star of this flux (nJy)."""
        first = int(np.searchsorted(self.brightest, FAINTEST_WING_NJY / (flux * pixel_scale**2)))
        return float(self.radii[max(first - 1, 0)]) if first < len(self.radii) else 0.0


def draw_stamps(stamps: Iterable[Stamp], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw sources on an image of ``(ny, nx)`` pixels; the result is in units of the profiles' flux in each pixel."""
    ny, nx = shape
    flux = galsim.ImageF(nx, ny, xmin=0, ymin=0)
    for stamp in stamps:
        reach = stamp.reach_pixels
        bounds = flux.bounds & galsim.BoundsI(
            xmin=int(np.floor(stamp.x - reach)),
            xmax=int(np.ceil(stamp.x + reach)),
            ymin=int(np.floor(stamp.y - reach)),
            ymax=int(np.ceil(stamp.y + reach)),
        )
        if not bounds.isDefined():
            continue
        stamp.profile.drawImage(
            image=flux[bounds],
            center=galsim.PositionD(stamp.x, stamp.y),
            wcs=galsim.JacobianWCS(*stamp.jacobian.ravel()),
            method="no_pixel",  # the PSF holds the pixel
            add_to_image=True,
        )
    return np.asarray(flux.array)


def galaxy_profile(row: Row, angle_deg: float) -> galsim.GSObject:
    """Return the Sersic profile of a source of a scene, of flux 1, its major axis at an angle from +u to +v."""
    axis_ratio = float(row["axis_ratio"])
    circularised = float(row["half_light_radius"]) * np.sqrt(axis_ratio)
    return (
        _unit_sersic(float(row["sersic_n"])).dilate(circularised).shear(q=axis_ratio, beta=angle_deg * galsim.degrees)
    )


@cache
def _unit_sersic(index: float) -> galsim.Sersic:
    # One object for all sizes: galsim's tables belong to an index and a truncation in units of the scale radius.
    return galsim.Sersic(index, half_light_radius=1.0, trunc=TRUNCATION_RADII, gsparams=DRAWING)


def profile_reach_arcsec(row: Row, flux: float, pixel_scale: float) -> float:
    """Return the radius along the major axis within which a galaxy gives pixels more than `FAINTEST_WING_NJY`.

    The Sersic profile and its central brightness are those of Graham & Driver (2005, PASA 22, 118). A star has no
    extent.
    """
    if row["kind"] == "star":
        return 0.0
    n, major = float(row["sersic_n"]), float(row["half_light_radius"])
    b = 2 * n - 1 / 3 + 0.009876 / n
    area = 2 * np.pi * float(row["axis_ratio"]) * major**2
    at_half_light = flux / (area * n * np.exp(b) * b ** (-2 * n) * special.gamma(2 * n))
    ratio = at_half_light * pixel_scale**2 / FAINTEST_WING_NJY
    radii = max(1 + float(np.log(ratio)) / b, 0.0) ** n
    return major * min(radii, TRUNCATION_RADII)
