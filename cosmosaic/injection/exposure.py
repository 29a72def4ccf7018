"""Sources of known flux in one exposure, with the noise of their photons."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import galsim
import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from cosmosaic.catalog.psf import matching_kernel, model_psf, read_psf
from cosmosaic.exposures.planes import Change, FloatRows, copy_changed, read_plane
from cosmosaic.exposures.wcs import read_wcs
from cosmosaic.geometry.grid import sky_to_pixel
from cosmosaic.injection.placement import REACH_ARCSEC
from cosmosaic.injection.records import Combination, Draw
from cosmosaic.nircam import detector_gain, detector_pixel_arcsec
from cosmosaic.records import Lattice
from cosmosaic.simulate.psf import effective_psf
from cosmosaic.simulate.stamps import DRAWING, PsfEnvelope, Stamp, draw_stamps, galaxy_profile, profile_reach_arcsec
from cosmosaic.steps.result import Made

MJY_SR_PER_NJY_ARCSEC2 = 1e-15 / np.radians(1.0 / 3600.0) ** 2
NEWTON_STEPS = 6
"""Of the search for the pixel at a direction; distortions leave 1e-9 pixels after three."""

FloatImage = NDArray[np.float32]


class InjectionError(ValueError):
    """An exposure lacks what injection needs."""


@dataclass(frozen=True)
class ExposurePsf:
    """The light of a star in the pixels of a detector, oriented as the mosaic."""

    profile: galsim.GSObject
    envelope: PsfEnvelope


@dataclass(frozen=True)
class Place:
    """An exposure on the survey's grid."""

    wcs: Any
    """Its gwcs: 0-based pixels (x, y) to (RA, Dec) in degrees."""
    grid: Lattice
    shape: tuple[int, int]
    """Rows and columns of the exposure."""

    def near(self, sky: NDArray[np.float64], margin: float) -> Iterator[tuple[int, float, float, NDArray[np.float64]]]:
        """Find the directions (RA, Dec) that lie in the exposure or less than ``margin`` pixels outside.

        Yields
        ------
        tuple
            Index of the direction, its pixel x and y, and the Jacobian there, ``d(u, v) / d(x, y)``, in arcsec per
            pixel, with u and v along the axes of the grid.
        """
        target, (ny, nx) = sky_to_pixel(self.grid, sky), self.shape
        corners = np.array([(0.0, 0.0), (nx - 1.0, 0.0), (nx - 1.0, ny - 1.0), (0.0, ny - 1.0)])
        linear = np.linalg.lstsq(_with_one(self._on_grid(*corners.T)), corners, rcond=None)[0]
        x, y = (_with_one(target) @ linear).T
        near = np.flatnonzero((x > -margin) & (x < nx + margin) & (y > -margin) & (y < ny + margin))
        if not len(near):
            return
        x, y = x[near], y[near]
        for _ in range(NEWTON_STEPS):
            along_x = self._on_grid(x + 0.5, y) - self._on_grid(x - 0.5, y)
            along_y = self._on_grid(x, y + 0.5) - self._on_grid(x, y - 0.5)
            jacobians = np.stack([along_x, along_y], axis=-1)
            step = np.linalg.solve(jacobians, (target[near] - self._on_grid(x, y))[..., None])[..., 0]
            x, y = x + step[:, 0], y + step[:, 1]
        jacobians *= self.grid.pixel_scale_mas / 1000.0
        for index, column, row, jacobian in zip(near, x, y, jacobians, strict=True):
            yield int(index), float(column), float(row), jacobian

    def _on_grid(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        ra, dec = self.wcs(x, y, with_bounding_box=False)
        return sky_to_pixel(self.grid, np.stack([ra, dec], axis=1))


def inject_sources(
    exposure: Path,
    injected: Mapping[str, Path],
    psfs: Mapping[str, Path],
    combination: Combination,
    draw: Draw,
    folder: Path,
) -> Made:
    """Add sources to a calibrated exposure: SCI with photon noise, VAR_POISSON and ERR.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    injected
        Sources (``_injected.ecsv``) by window.
    psfs
        ``_psf.fits`` of the filter's mosaics by window, oriented as the grid.
    combination
        How mosaics are made.
    draw
        Seed and round, for the noise.
    folder
        Gets the changed file, under the same name.

    Raises
    ------
    InjectionError
        The header lacks the flux calibration or the readout's times.
    """
    band, grid = combination.band, combination.grid
    with fits.open(exposure, memmap=False) as hdus:
        header = hdus[0].header.copy()
        variance = photon_variance(header, hdus["SCI"].header, band, exposure.name)
        shape, wcs = read_plane(hdus, "SCI").shape, read_wcs(hdus["ASDF"].data.tobytes())
    light = np.zeros(shape, np.float32)
    for tile, path in injected.items():
        psf = exposure_psf(psfs[tile], band, grid.pixel_scale_mas / 1000.0, combination.pixfrac)
        light += draw_light(Table.read(path, format="ascii.ecsv"), band, psf, Place(wcs, grid, shape))
    random = np.random.default_rng([draw.seed, draw.number, crc32(exposure.name.encode())])
    cal = copy_changed(exposure, folder / exposure.name, {"PRIMARY": header}, _changes(light, variance, random))
    return Made(cal=cal)


def photon_variance(header: fits.Header, sci: fits.Header, band: str, name: str) -> float:
    """Return the variance that photons add to a pixel per surface brightness, in MJy/sr.

    That of a ramp whose first and last group count, as in the ramp fit's VAR_POISSON, with the channel's nominal gain.

    Raises
    ------
    InjectionError
        A keyword is missing.
    """
    needed = {"PHOTMJSR": sci.get("PHOTMJSR")} | {key: header.get(key) for key in ("NGROUPS", "TGROUP", "NINTS")}
    missing = [key for key, value in needed.items() if not value]
    if missing:
        raise InjectionError(
            f"{name}: no {', '.join(missing)} in the header, from which the photon noise of injected sources is "
            f"computed; give the _cal file that Stage 2 wrote"
        )
    seconds = needed["NINTS"] * needed["TGROUP"] * max(needed["NGROUPS"] - 1, 1)
    return float(needed["PHOTMJSR"] / (detector_gain(band) * seconds))


def exposure_psf(path: Path, band: str, scale_arcsec: float, pixfrac: float) -> ExposurePsf:
    """Return the PSF of an exposure whose drizzled image has the PSF of a mosaic.

    That is the computed PSF of an exposure, convolved with the kernel that turns the computed PSF of the mosaic into
    the mosaic's own, of the field's stars or the user's; if the mosaic's is the computed one, there is nothing to do.

    Parameters
    ----------
    path
        ``_psf.fits`` of the mosaic.
    band, scale_arcsec, pixfrac
        Filter, pixels and drizzle of the mosaic.
    """
    native = detector_pixel_arcsec(band)
    computed, psf = effective_psf(band, native), read_psf(path, scale_arcsec)
    profile = _interpolated(computed.image, computed.scale_arcsec)
    image = computed.image
    if psf.origin != "model":
        kernel = matching_kernel(model_psf(band, scale_arcsec, pixfrac), psf)
        changed = galsim.Convolve(profile, _interpolated(kernel, scale_arcsec), gsparams=DRAWING)
        side = len(image)
        drawn = changed.drawImage(nx=side, ny=side, scale=computed.scale_arcsec, method="no_pixel", dtype=float)
        image = drawn.array
        profile = _interpolated(image, computed.scale_arcsec)
    return ExposurePsf(profile, PsfEnvelope.of(image, computed.scale_arcsec))


def draw_light(sources: Table, band: str, psf: ExposurePsf, place: Place) -> FloatImage:
    """Draw the surface brightness of sources in an exposure, in MJy/sr with its shape ``(ny, nx)``.

    Parameters
    ----------
    sources
        Rows with the columns of a scene.
    band
        Filter.
    psf
        Of the exposure, oriented as the grid.
    place
        Of the exposure on the sky.
    """
    return draw_stamps(_stamps(sources, band, psf, place), place.shape) * np.float32(MJY_SR_PER_NJY_ARCSEC2)


def _stamps(sources: Table, band: str, psf: ExposurePsf, place: Place) -> Iterator[Stamp]:
    pixel = detector_pixel_arcsec(band)
    sky = np.stack([sources["ra"], sources["dec"]], axis=1)
    for index, x, y, jacobian in place.near(sky, REACH_ARCSEC / pixel):
        source = sources[index]
        flux = float(source[f"flux_{band}"])
        reach = psf.envelope.reach_arcsec(flux, pixel) + profile_reach_arcsec(source, flux, pixel)
        profile = psf.profile
        if source["kind"] == "galaxy":
            # Position angles turn from north to east, which on the grid is from +v to -u; galsim's from +u to +v.
            angle = float(source["position_angle"]) - place.grid.rotation + 90.0
            profile = galsim.Convolve(galaxy_profile(source, angle), profile, gsparams=DRAWING)
        # A pixel's flux over its own area is surface brightness.
        yield Stamp(profile * (flux / abs(np.linalg.det(jacobian))), x, y, reach / pixel, jacobian)


def _with_one(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([points, np.ones(len(points))])


def _changes(light: FloatImage, variance: float, random: np.random.Generator) -> dict[str, Change]:
    """The changes of the planes; negative rings of the PSF's interpolation bring no photons."""
    photons = np.maximum(light, 0.0) / variance
    noise = ((random.poisson(photons) - photons) * variance).astype(np.float32)
    added = np.float32(variance) * np.maximum(light, np.float32(0.0))
    return {
        "SCI": partial(_plus, light + noise),
        "VAR_POISSON": partial(_plus, added),
        "ERR": lambda rows, values: np.sqrt(values.astype(np.float32) ** 2 + added[rows]),
    }


def _plus(image: FloatImage, rows: slice, values: FloatRows) -> FloatRows:
    return values.astype(np.float32) + image[rows]


def _interpolated(image: NDArray[np.floating] | Sequence, scale: float) -> galsim.InterpolatedImage:
    drawn = galsim.ImageD(np.ascontiguousarray(image, np.float64), scale=scale)
    return galsim.InterpolatedImage(
        drawn, x_interpolant="quintic", k_interpolant="cubic", pad_factor=2, gsparams=DRAWING
    )
