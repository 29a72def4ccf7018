"""Star tables of simulated exposures, without pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cosmosaic.astrometry.matching import MAS_PER_RADIAN, tangent_axes
from cosmosaic.astrometry.network import MIDDLE_ARCSEC, Detections, Seen
from cosmosaic.geometry.attitude import attitude_matrix
from cosmosaic.geometry.sphere import unit_vectors
from cosmosaic.simulate.geometry import (
    View,
    nominal_view,
    nominal_wcs_keywords,
    pixel_to_sky,
    sky_to_pixel,
    true_view,
)
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

DETECTORS = ("NRCA1", "NRCA2", "NRCA3", "NRCA4", "NRCALONG", "NRCB1", "NRCB2", "NRCB3", "NRCB4", "NRCBLONG")
DITHERS = ((-24.6, -12.5), (-24.4, 12.4), (24.6, -12.3), (24.4, 12.6))
LATTICE = np.stack(np.meshgrid([200.0, 1023.5, 1847.0], [200.0, 1023.5, 1847.0]), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class StarField:
    """The stars that exposures see, and where they and the exposures truly are."""

    frames: Sequence[PlannedExposure]
    seen: list[Seen]
    detections: Detections
    star: np.ndarray
    """True star of each detection."""
    sky: np.ndarray
    """Unit vectors of the stars."""
    points: Detections
    """Nine points of each exposure, by its header."""
    true_points: np.ndarray

    def residuals_mas(self, moved: Detections, aligned: np.ndarray | None = None) -> np.ndarray:
        """(East, north) residual of each exposure, without the rotation of the aligned ones together, shape (E, 2)."""
        steps = (moved.vectors - self.true_points) * MAS_PER_RADIAN
        chosen = np.full(len(steps), True) if aligned is None else aligned[moved.exposure]
        true = self.true_points[chosen]
        normal = len(true) * np.eye(3) - true.T @ true
        turn = np.linalg.solve(normal + 1e-12 * np.eye(3), np.cross(true, steps[chosen]).sum(axis=0))
        return self._plane(steps - np.cross(turn, self.true_points))

    def absolute_mas(self, moved: Detections) -> np.ndarray:
        """(East, north) residual of each exposure, shape (E, 2)."""
        return self._plane((moved.vectors - self.true_points) * MAS_PER_RADIAN)

    def _plane(self, steps: np.ndarray) -> np.ndarray:
        plane = np.stack([np.sum(steps * axis, axis=1) for axis in tangent_axes(self.true_points)], axis=1)
        return plane.reshape(len(self.frames), len(LATTICE), 2).mean(axis=1)


def star_field(
    density: float,
    seed: int = 3,
    columns: int = 2,
    rows: int = 2,
    step_arcsec: tuple[float, float] = (95.0, 60.0),
    dithers: Sequence[tuple[float, float]] = DITHERS,
    **errors: float,
) -> StarField:
    """Simulate ``rows * columns`` pointings, 20 exposures of each dither, with stars per square arcminute."""
    right, up = step_arcsec
    places = [
        Pointing(ra=150.1 + right * column / 3600, dec=2.2 + up * row / 3600, position_angle=3.0 * (row % 2))
        for row in range(rows)
        for column in range(columns)
    ]
    hard = {"aberration": 9e-5, "pointing_error_mas": 20.0, "roll_error_arcsec": 10.0, "placement_error_mas": 2.0}
    settings = SimulationSettings(
        seed=seed,
        pointings=tuple(places),
        dithers_arcsec=tuple(dithers),
        detectors=DETECTORS,
        subarray="FULL",
        filter_pairs=(FilterPair(short="F115W", long="F277W"), FilterPair(short="F150W", long="F444W")),
        **(hard | errors),
    )
    return observe(plan_exposures(settings), density, seed)


def observe(
    frames: Sequence[PlannedExposure],
    density: float,
    seed: int = 3,
    view: Callable[[PlannedExposure], View] | None = None,
) -> StarField:
    """Let exposures see random stars; the view that places them by the header shares aberration, if not given."""
    view = view or by_header
    generator = np.random.default_rng(seed)
    centres = np.array([(frame.ra, frame.dec) for frame in frames])
    low, high = centres.min(axis=0) - 0.07, centres.max(axis=0) + 0.07
    sky = low + (high - low) * generator.random((int(density * np.prod(high - low) * 3600), 2))
    magnitudes = generator.uniform(19.5, 25.5, len(sky))
    parts = []
    for number, frame in enumerate(frames):
        x, y = sky_to_pixel(frame, true_view(frame), *sky.T)
        on = np.flatnonzero((x > 0) & (x < 2047) & (y > 0) & (y < 2047))
        scale, sigma = (63.0, 1.6) if "LONG" in frame.detector else (31.0, 0.8)
        error = np.clip(sigma * 10 ** (0.2 * (magnitudes[on] - 22.5)), 0.4, 12.0)
        noise = error / scale * generator.standard_normal((2, len(on)))
        place = pixel_to_sky(frame, view(frame), x[on] + noise[0], y[on] + noise[1])
        parts.append((np.full(len(on), number), unit_vectors(np.transpose(place)), error, -magnitudes[on], on))
    exposure, vectors, errors, fluxes, star = (np.concatenate(part) for part in zip(*parts, strict=True))
    points, true = (
        np.concatenate([unit_vectors(np.transpose(pixel_to_sky(frame, of(frame), *LATTICE.T))) for frame in frames])
        for of in (view, true_view)
    )
    nothing = np.zeros(len(points))
    return StarField(
        frames,
        [seen(frame) for frame in frames],
        Detections(exposure, vectors, errors, fluxes),
        star,
        unit_vectors(sky),
        Detections(np.repeat(np.arange(len(frames)), len(LATTICE)), points, nothing, nothing),
        true,
    )


def by_header(frame: PlannedExposure) -> View:
    """The header's view, with velocity aberration about a point that the detectors share."""
    header = nominal_view(frame)
    return View(header.attitude, header.matrix, (1 - frame.va_scale) * np.array(MIDDLE_ARCSEC))


def seen(frame: PlannedExposure) -> Seen:
    """What the network knows of an exposure."""
    keywords = nominal_wcs_keywords(frame)
    names = ("v2_ref", "v3_ref", "ra_ref", "dec_ref", "roll_ref")
    return Seen(
        name=frame.name,
        pointing=frame.name.rpartition("_")[0],
        visit=frame.observation,
        detector=frame.detector,
        band=frame.band,
        attitude=attitude_matrix(*(keywords[name] for name in names)),
        point=(keywords["v2_ref"], keywords["v3_ref"]),
        aberration=1 - frame.va_scale,
    )
