"""Surveys of known sources, from calibrated exposures through the whole flow: see ``benchmarks/catalog.py``.

Stars and Sersic galaxies, some with a companion, in F115W, F150W, F277W and F444W on module B. The exposures have no
errors of pointing. The ``even`` survey has no 1/f noise and no wisps; the ``uneven`` one has both, and depths of two to
eight exposures and more.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import astropy.units as u
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scale_runs import run

from cosmosaic.geometry.siaf import aperture_name, nircam_apertures
from cosmosaic.nircam import drawn_pixel_arcsec
from cosmosaic.simulate.geometry import exposure_shape, footprint, nominal_view, sky_to_pixel
from cosmosaic.simulate.instrument import flux_conversion
from cosmosaic.simulate.plan import PlannedExposure, exposure_duration_s, plan_exposures
from cosmosaic.simulate.psf import effective_psf
from cosmosaic.simulate.survey import simulate_exposure
from cosmosaic.simulate.truth import detectors_by_band, write_psf
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

Kind = Literal["even", "uneven"]
Psfs = Literal["known", "stars"]

FILTERS = ("F115W", "F150W", "F277W", "F444W")
PAIRS = (FilterPair(short="F115W", long="F277W"), FilterPair(short="F150W", long="F444W"))
POINTING = Pointing(ra=150.1163213, dec=2.200973097, position_angle=20.0)
NAME = "catalog"
"""Of the survey, with which its products begin."""

EVEN_DITHERS = ((-4.1, -3.2), (0.4, 0.3), (3.9, 3.1))
UNEVEN_DITHERS = 8
UNEVEN_SHIFT = 0.35
"""Largest offset of the uneven survey's dithers, in widths of the long-wavelength field."""
WISPS_MJY_SR = 0.1
INJECTED_PER_ARCMIN2 = 120.0
"""Largest density of injected sources, a quarter of the survey's own: 600 take one round."""

STARS, GALAXIES = 400.0, 120.0
"""Per square arcminute."""
COMPANIONS = 0.15
"""Fraction of sources with a companion, of a tenth to all of their flux, within `COMPANION_ARCSEC`."""
COMPANION_ARCSEC = (0.15, 0.8)
NOMINAL_DEPTH = {"F115W": 27.0, "F150W": 27.2, "F277W": 27.6, "F444W": 27.3}
"""AB magnitude of a star with S/N 5 in 0.3 arcsec, of three exposures of `NOMINAL_S`, roughly; the choice of fluxes
depends on it, nothing else."""
NOMINAL_S = 120.0
STAR_SNR = ((0.25, 1.8, 3.3), (0.25, 3.7, 6.5), (0.35, 5.0, 60.0), (0.14, 60.0, 600.0), (0.01, 8000.0, 40000.0))
"""Fraction of the stars, and between which S/N in a filter they are, evenly in the logarithm; the S/N in the sum of all
filters, at 5 and 10 of which completeness is measured, is about twice as large."""
GALAXY_SNR = ((1.0, 3.0, 1000.0),)
COLOUR = dict(zip(FILTERS, (-0.5, -0.3, 0.2, 0.5), strict=True))
"""Magnitudes by which a filter changes with a source's colour, whose rms is 0.5."""
MARGIN_ARCSEC = 4.0
FULL_WELL_DN = 50_000.0
"""Stars whose brightest pixel may hold more are not counted as unsaturated."""


@dataclass(frozen=True)
class Survey:
    """A simulated survey, reduced."""

    folder: Path
    """Of the seed; nothing outside of it is written."""
    simulation: SimulationSettings
    truth: Table
    """The scene, with the columns of `cosmosaic.simulate.scene`."""
    exposures: tuple[PlannedExposure, ...]

    def products(self, psfs: Psfs) -> Path:
        """Products of the flow with the known PSF, or with that of the field's stars."""
        return self.folder / "store" / f"products_{psfs}"

    def mosaics(self) -> dict[str, Path]:
        """The mosaics by filter; they do not depend on PSFs."""
        return {band: self.product("known", band, "i2d.fits") for band in FILTERS}

    def psfs(self) -> dict[str, Path]:
        """The known PSFs of the mosaics by filter."""
        return {band: self.product("known", band, "psf.fits") for band in FILTERS}

    def product(self, psfs: Psfs, band: str, ending: str) -> Path:
        """A product of one filter."""
        (path,) = self.products(psfs).glob(f"{NAME}_{band.lower()}_*_{ending}")
        return path


def simulation_settings(seed: int, kind: Kind, subarray: str, detectors: tuple[str, ...]) -> SimulationSettings:
    """Choose dithers and artefacts; headers have no errors, so that positions tell of the catalogue alone."""
    even = kind == "even"
    return SimulationSettings(
        seed=seed,
        level="cal",
        pointings=(POINTING,),
        dithers_arcsec=EVEN_DITHERS if even else uneven_dithers(subarray),
        filter_pairs=PAIRS,
        detectors=detectors,
        subarray=subarray,
        flicker_noise=not even,
        wisp_mjy_sr=0.0 if even else WISPS_MJY_SR,
        aberration=0.0,
        pointing_error_mas=0.0,
        roll_error_arcsec=0.0,
        placement_error_mas=0.0,
        filter_offset_mas=0.0,
        proper_motion_mas_yr=0.0,
    )


def uneven_dithers(subarray: str) -> tuple[tuple[float, float], ...]:
    """Offsets along x whose exposures overlap ever less towards both ends."""
    aperture = nircam_apertures()[aperture_name("NRCBLONG", subarray)]
    width = aperture.XSciSize * aperture.XSciScale
    along = np.linspace(-UNEVEN_SHIFT, UNEVEN_SHIFT, UNEVEN_DITHERS) * width
    return tuple((float(x), 0.7 * (number % 3 - 1)) for number, x in enumerate(along))


def make_survey(folder: Path, simulation: SimulationSettings, processes: int, injected: int) -> Survey:
    """Simulate a survey, and reduce it with the known PSF and with that of its stars.

    Parameters
    ----------
    folder
        Gets ``raw/``, ``truth/`` and ``store/``.
    simulation
        The survey.
    processes
        Child processes.
    injected
        Number of sources that the flow injects; 0 for none, and for no run with the PSF of the stars.
    """
    exposures = plan_exposures(simulation)
    truth = draw_sources(simulation, exposures)
    simulated = folder / "simulated"
    if not simulated.exists():
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(partial(simulate_exposure, scene=truth, settings=simulation, folder=folder), exposures))
        simulated.touch()
    survey = Survey(folder, simulation, truth, exposures)
    psfs = {}
    for band, detector in detectors_by_band(exposures).items():
        psfs[band] = str(folder / f"{band.lower()}_psf.fits")
        write_psf(band, detector, Path(psfs[band]))
    known = {"detector_psfs": psfs}
    inject = {"with_products": True, "sources": injected, "per_arcmin2": INJECTED_PER_ARCMIN2} if injected else {}
    _run(survey, "known", processes, {"catalog": known, "injection": inject})
    if injected:
        _run(survey, "stars", processes, {})
    return survey


def _run(survey: Survey, psfs: Psfs, processes: int, settings: dict) -> None:
    common = {"name": NAME, "products": str(survey.products(psfs)), "resources": {"processes": processes}}
    run(survey.folder / "raw", survey.folder / "store", common | settings)


def draw_sources(simulation: SimulationSettings, exposures: tuple[PlannedExposure, ...]) -> Table:
    """Draw the sources of a survey, over the sky around its exposures."""
    random = np.random.default_rng(simulation.seed)
    corners = np.concatenate([np.stack(footprint(one, nominal_view(one)), axis=1) for one in exposures])
    cosine = np.cos(np.radians(POINTING.dec))
    margin = MARGIN_ARCSEC / 3600.0 / np.array([cosine, 1.0])
    low, high = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    area = float(np.prod((high - low) * (60.0 * cosine, 60.0)))
    stars, galaxies = (round(density * area) for density in (STARS, GALAXIES))
    is_star = np.arange(stars + galaxies) < stars
    number = len(is_star)
    snr = np.concatenate([_draw_snr(random, STAR_SNR, stars), _draw_snr(random, GALAXY_SNR, galaxies)])
    places = low + (high - low) * random.random((number, 2))
    has_companion = random.random(number) < COMPANIONS
    away, angle = random.uniform(*COMPANION_ARCSEC, number) / 3600.0, random.uniform(0.0, 2.0 * np.pi, number)
    offsets = np.stack([away * np.cos(angle) / cosine, away * np.sin(angle)], axis=1)
    places = np.concatenate([places, (places + offsets)[has_companion]])
    snr = np.concatenate([snr, (snr * 10.0 ** random.uniform(-1.0, 0.0, number))[has_companion]])
    is_star = np.concatenate([is_star, is_star[has_companion]])
    table = Table({"id": np.arange(1, len(snr) + 1), "ra": places[:, 0], "dec": places[:, 1]})
    magnitude = _magnitudes(snr, simulation)
    for name, values in _shapes(random, magnitude["F150W"]).items():
        table[name] = np.where(is_star, np.nan, values)
    table["kind"] = np.where(is_star, "star", "galaxy")
    colour = random.normal(0.0, 0.5, len(snr))
    for band in FILTERS:
        table[f"flux_{band}"] = ((magnitude[band] + COLOUR[band] * colour) * u.ABmag).to_value(u.nJy)
    return table


def _draw_snr(
    random: np.random.Generator, parts: tuple[tuple[float, float, float], ...], number: int
) -> NDArray[np.float64]:
    part = random.choice(len(parts), number, p=[fraction for fraction, _, _ in parts])
    low, high = np.log([limits for _, *limits in parts])[part].T
    return np.exp(random.uniform(low, high))


def _magnitudes(snr: NDArray[np.float64], simulation: SimulationSettings) -> dict[str, NDArray[np.float64]]:
    """Magnitudes of sources of some S/N, by filter."""
    deeper = 1.25 * np.log10(exposure_duration_s(simulation) / NOMINAL_S)
    return {band: depth + deeper - 2.5 * np.log10(snr / 5.0) for band, depth in NOMINAL_DEPTH.items()}


def _shapes(random: np.random.Generator, magnitude: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Sersic profiles of galaxies, smaller where fainter: half-light radii of 0.05 to 1.5 arcsec."""
    number = len(magnitude)
    radius = 0.35 * 10.0 ** (-0.10 * (magnitude - 23.0)) * random.lognormal(0.0, 0.5, number)
    return {
        "sersic_n": np.where(random.random(number) < 0.6, 1.0, 4.0),
        "half_light_radius": np.clip(radius, 0.05, 1.5),
        "axis_ratio": random.uniform(0.3, 1.0, number),
        "position_angle": random.uniform(0.0, 180.0, number),
    }


def exposures_at(survey: Survey, band: str, ra: NDArray, dec: NDArray, rim_arcsec: float = 0.0) -> NDArray[np.int64]:
    """Count the exposures of a filter whose detector sees some directions, not nearer than this to its rim."""
    count = np.zeros(len(ra), np.int64)
    for exposure in survey.exposures:
        if exposure.band != band:
            continue
        x, y = sky_to_pixel(exposure, nominal_view(exposure), ra, dec)
        rows, columns = exposure_shape(exposure)
        rim = rim_arcsec / drawn_pixel_arcsec(exposure.detector) - 0.5
        count += (x > rim) & (y > rim) & (x < columns - 1 - rim) & (y < rows - 1 - rim)
    return count


def unsaturated(survey: Survey, band: str) -> NDArray[np.bool_]:
    """Tell of each source whether a star of its flux stays below `FULL_WELL_DN` in its brightest pixel."""
    detector = detectors_by_band(survey.exposures)[band]
    pixel = drawn_pixel_arcsec(detector)
    psf = effective_psf(band, pixel)
    peak = psf.image.max() * (pixel / psf.scale_arcsec) ** 2
    area_sr = (pixel * u.arcsec).to_value(u.rad) ** 2
    dn_s = np.asarray(survey.truth[f"flux_{band}"]) * 1e-15 / area_sr / flux_conversion(detector, band)
    return dn_s * peak * exposure_duration_s(survey.simulation) < FULL_WELL_DN
