"""The injected sources: fluxes around the depth of the mosaics, shapes and colours, drawn at random."""

from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from cosmosaic.catalog.noise import DEPTH_DIAMETER_ARCSEC
from cosmosaic.catalog.psf import read_psf
from cosmosaic.injection.placement import Positions
from cosmosaic.injection.records import Draw
from cosmosaic.nircam import wavelength_um
from cosmosaic.steps.result import Made

AROUND_DEPTH = (-6.0, 2.0)
"""Magnitudes of a source in one filter, relative to the depth there."""
BRIGHTEST = 19.0
"""Brighter stars saturate, which injection does not imitate."""
SLOPE_SCATTER = 0.7
"""Rms exponent of the spectra, power laws in wavelength."""
RADII_ARCSEC = (0.05, 0.8)
"""Half-light radii along the major axis, evenly in the logarithm."""
SERSIC = np.arange(0.5, 4.1, 0.5)
AXIS_RATIOS = (0.3, 1.0)
DEPTH_SIGMA = 5.0
"""Significance of the depth."""


def draw_sources(
    depths: Mapping[str, Path],
    psfs: Mapping[str, Path],
    positions: Positions,
    galaxies: float,
    draw: Draw,
    tile: str,
    folder: Path,
) -> Made:
    """Draw the sources that are injected into one window.

    Each source has a filter of its own, drawn from those that cover it, in which its magnitude is drawn evenly around
    the depth at its position; its spectrum gives the flux in the others. So each filter is sampled over its range.

    Parameters
    ----------
    depths
        ``_depth.fits`` of the window by filter.
    psfs
        ``_psf.fits`` of the window by filter.
    positions
        (RA, Dec) in degrees; those that no filter covers are left out.
    galaxies
        Fraction of galaxies.
    draw
        Seed and round.
    tile
        Name of the window.
    folder
        Gets ``<tile>_injected.ecsv``, with the columns of a scene (`cosmosaic.simulate.scene`), fluxes in nJy, and
        ``snr_<FILTER>``, the S/N that a star of this flux has in the aperture of the depth, NaN where a filter does
        not cover it, and ``round``.
    """
    random = np.random.default_rng([draw.seed, draw.number, crc32(tile.encode())])
    bands, sky = [band for band in depths if band in psfs], np.asarray(positions, np.float64)
    depth = np.array([depth_at(depths[band], sky) for band in bands])
    covered = np.isfinite(depth)
    count = len(sky)
    # All are drawn, and those that nothing covers left out at the end: depths do not change the other draws.
    own = np.array([_one_of(row, chance) for row, chance in zip(covered.T, random.random(count), strict=True)])
    relative, slope = random.uniform(*AROUND_DEPTH, count), SLOPE_SCATTER * random.standard_normal(count)
    magnitude = np.maximum(np.where(covered.any(axis=0), depth[own, np.arange(count)], np.nan) + relative, BRIGHTEST)
    wavelengths = np.array([wavelength_um(band) for band in bands])
    flux = (magnitude * u.ABmag).to_value(u.nJy)
    table = Table({"id": np.arange(1, count + 1), "ra": sky[:, 0], "dec": sky[:, 1]})
    for name, values in _shapes(galaxies, count, random).items():
        table[name] = values
    table["round"] = draw.number + 1
    for band, wavelength, values in zip(bands, wavelengths, depth, strict=True):
        table[f"flux_{band}"] = flux * (wavelength / wavelengths[own]) ** slope
        faintest = (values * u.ABmag).to_value(u.nJy) / _light_in_aperture(psfs[band])
        table[f"snr_{band}"] = DEPTH_SIGMA * table[f"flux_{band}"] / faintest
    path = folder / f"{tile}_injected.ecsv"
    table[covered.any(axis=0)].write(path, format="ascii.ecsv")
    return Made(sources=path)


def depth_at(path: Path, sky: NDArray[np.float64]) -> NDArray[np.float64]:
    """Look up a map of depths (``_depth.fits``) at directions (RA, Dec); NaN outside."""
    with fits.open(path) as hdus:
        depth, wcs = np.asarray(hdus["DEPTH"].data), WCS(hdus["DEPTH"].header)
    columns, rows = (np.rint(axis).astype(int) for axis in wcs.wcs_world2pix(sky, 0).T)
    inside = (rows >= 0) & (columns >= 0) & (rows < depth.shape[0]) & (columns < depth.shape[1])
    values = np.full(len(sky), np.nan)
    values[inside] = depth[rows[inside], columns[inside]]
    return values


def _light_in_aperture(path: Path) -> float:
    """Fraction of a star's light in the aperture that depths refer to."""
    psf = read_psf(path, float(fits.getheader(path)["PIXSCALE"]))
    return float(psf.within(DEPTH_DIAMETER_ARCSEC / 2)[0])


def _one_of(covered: NDArray[np.bool_], chance: float) -> int:
    """The filter of a source, by a number from 0 to 1."""
    choices = np.flatnonzero(covered)
    return int(choices[int(chance * len(choices))]) if len(choices) else 0


def _shapes(galaxies: float, count: int, random: np.random.Generator) -> dict[str, NDArray]:
    is_galaxy = random.random(count) < galaxies
    smallest, largest = np.log(RADII_ARCSEC)
    radius = np.exp(random.uniform(smallest, largest, count))
    shapes = {
        "sersic_n": random.choice(SERSIC, count),
        "half_light_radius": radius,
        "axis_ratio": random.uniform(*AXIS_RATIOS, count),
        "position_angle": random.uniform(0.0, 180.0, count),
    }
    kinds = np.where(is_galaxy, "galaxy", "star")
    return {"kind": kinds} | {name: np.where(is_galaxy, values, np.nan) for name, values in shapes.items()}
