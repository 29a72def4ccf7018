"""The WCS of a pixel grid as data models and FITS headers hold it."""

import astropy.units as u
import gwcs
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.modeling.models import Pix2Sky_TAN
from gwcs.coordinate_frames import CelestialFrame, Frame2D
from gwcs.fitswcs import FITSImagingWCSTransform

from cosmosaic.geometry.grid import pc_matrix
from cosmosaic.records import MosaicGrid


def wcs_header(grid: MosaicGrid) -> fits.Header:
    """Return the FITS WCS of a grid as a header (``PC`` and ``CDELT``, as jwst writes it)."""
    matrix, scale = pc_matrix(grid.rotation), grid.pixel_scale_mas / 3.6e6
    cards: list[tuple[str, str | float | int, str]] = [
        ("WCSAXES", 2, "number of World Coordinate System axes"),
        ("CRPIX1", grid.crpix[0] + 1.0, "axis 1 coordinate of the reference pixel"),
        ("CRPIX2", grid.crpix[1] + 1.0, "axis 2 coordinate of the reference pixel"),
        ("CRVAL1", grid.tangent_ra, "[deg] RA at the reference point"),
        ("CRVAL2", grid.tangent_dec, "[deg] Dec at the reference point"),
        ("CTYPE1", "RA---TAN", "first axis coordinate type"),
        ("CTYPE2", "DEC--TAN", "second axis coordinate type"),
        ("CUNIT1", "deg", "first axis units"),
        ("CUNIT2", "deg", "second axis units"),
        ("CDELT1", scale, "first axis increment per pixel"),
        ("CDELT2", scale, "second axis increment per pixel"),
        ("PC1_1", matrix[0, 0], "linear transformation matrix element"),
        ("PC1_2", matrix[0, 1], "linear transformation matrix element"),
        ("PC2_1", matrix[1, 0], "linear transformation matrix element"),
        ("PC2_2", matrix[1, 1], "linear transformation matrix element"),
        # Said, because at the pole itself the FITS default is 0.
        ("LONPOLE", 180.0, "[deg] native longitude of the celestial pole"),
        ("RADESYS", "ICRS", "name of the coordinate reference frame"),
    ]
    return fits.Header([fits.Card(*card) for card in cards])


def grid_wcs(grid: MosaicGrid) -> gwcs.WCS:
    """Return the WCS of a grid as jwst's data models and resample step hold it (0-based pixels to degrees)."""
    scale = grid.pixel_scale_mas / 3.6e6
    transform = FITSImagingWCSTransform(
        Pix2Sky_TAN(),
        crpix=grid.crpix,
        crval=(grid.tangent_ra, grid.tangent_dec),
        cdelt=(scale, scale),
        pc=pc_matrix(grid.rotation),
    )
    detector = Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
    world = CelestialFrame(name="world", axes_order=(0, 1), reference_frame=ICRS(), unit=(u.deg, u.deg))
    wcs = gwcs.WCS([gwcs.Step(detector, transform), gwcs.Step(world, None)])
    rows, columns = grid.shape
    wcs.bounding_box = ((-0.5, columns - 0.5), (-0.5, rows - 0.5))
    wcs.pixel_shape = (columns, rows)
    wcs.array_shape = grid.shape
    return wcs
