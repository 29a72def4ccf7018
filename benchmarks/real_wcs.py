"""Real exposures' WCS, as a survey team corrected them, under simulated stars.

``python benchmarks/real_wcs.py FOLDER`` says what velocity aberration leaves between the detectors of each exposure,
what of the team's corrections has its form, and how well the network finds these corrections from stars alone.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asdf
import numpy as np
from gwcs import WCS
from numpy.typing import NDArray

from cosmosaic.astrometry.aberration import common_point, scale_and_point
from cosmosaic.astrometry.matching import MAS_PER_RADIAN
from cosmosaic.astrometry.network import Detections, Seen, solve_network
from cosmosaic.geometry.attitude import attitude_matrix
from cosmosaic.geometry.sphere import unit_vectors

Floats = NDArray[np.floating]

BANDS = {"02201": ("F115W", "F277W"), "04201": ("F150W", "F444W")}
"""Names for the filters of the two activities of CEERS that the files are of: which they are does not matter here."""
STARS_PER_ARCMIN2 = 22.0
ERROR_MAS = 1.0
EDGE = 4.0
SCALE_ARCSEC = 30.0


@dataclass(frozen=True)
class RealExposure:
    """One exposure's WCS."""

    seen: Seen
    wcs: WCS

    def by_header(self, x: Floats, y: Floats) -> Floats:
        """Unit vectors to pixels without the team's correction."""
        telescope = self.wcs.get_transform("detector", "v2v3vacorr")(x, y)
        return unit_vectors(np.transpose(self.wcs.get_transform("v2v3corr", "world")(*telescope)))

    def corrected(self, x: Floats, y: Floats) -> Floats:
        """Unit vectors to pixels with it."""
        return unit_vectors(np.transpose(self.wcs(x, y, with_bounding_box=False)))

    def pixels(self, sky: Floats) -> Floats:
        """Pixels (x, y) of (RA, Dec) with the correction; the inverse polynomials are off by up to 0.05 pixel."""
        first = np.transpose(self.wcs.invert(*sky.T, with_bounding_box=False))
        pixels = first
        for _ in range(2):
            again = np.transpose(self.wcs(*pixels.T, with_bounding_box=False))
            pixels = pixels + first - np.transpose(self.wcs.invert(*again.T, with_bounding_box=False))
        return pixels


def read_exposures(folder: Path) -> list[RealExposure]:
    """Read ``*_tweakreg.asdf`` of a folder."""
    found = []
    for path in sorted(folder.glob("*_tweakreg.asdf")):
        visit, activity, number, detector = path.name.split("_")[:4]
        with asdf.open(path, memmap=False) as tree:
            wcs, info = tree["wcs"], dict(tree["wcsinfo"])
        names = ("v2_ref", "v3_ref", "ra_ref", "dec_ref", "roll_ref")
        seen = Seen(
            name=path.name.removesuffix("_tweakreg.asdf"),
            pointing=f"{activity}_{number}",
            visit=visit,
            detector=detector.upper(),
            band=BANDS[activity][detector.endswith("long")],
            attitude=attitude_matrix(*(info[name] for name in names)),
            point=(info["v2_ref"], info["v3_ref"]),
        )
        found.append(RealExposure(seen, wcs))
    return found


def aberration_left(exposures: Sequence[RealExposure]) -> tuple[Floats, Floats]:
    """What jwst leaves of aberration: 1 - VA_SCALE, and (V2, V3) in mas, of each exposure."""
    scales = np.array([scale_and_point(one.wcs)[0] for one in exposures])
    points = np.array([one.seen.point for one in exposures])
    return 1 - scales, 1000 * (1 - scales)[:, None] * (points - common_point("NRCALL_FULL"))


def team_corrections(exposures: Sequence[RealExposure]) -> Floats:
    """(V2, V3) in mas that the team moved the middle of each exposure by."""
    moves = []
    for one in exposures:
        before = np.array(one.wcs.get_transform("detector", "v2v3vacorr")(1023.5, 1023.5))
        after = np.array(one.wcs.get_transform("v2v3vacorr", "v2v3corr")(*before))
        moves.append(1000 * (after - before))
    return np.array(moves)


def team_scales(exposures: Sequence[RealExposure]) -> Floats:
    """Scale of the team's correction within each exposure."""
    found = []
    for one in exposures:
        corner = one.seen.point + SCALE_ARCSEC * np.array([[0, 0], [1, 0], [0, 1]])
        after = np.transpose(one.wcs.get_transform("v2v3vacorr", "v2v3corr")(*corner.T))
        step = (after - after[0])[1:] / SCALE_ARCSEC
        found.append(np.trace(step) / 2 - 1)
    return np.array(found)


def fit_of_a_pointing(points: Floats, moves: Floats) -> tuple[float, float, Floats]:
    """Scale of the moves of a pointing's detectors beside shift and roll, its error, and what is left, mas."""
    lever = points - points.mean(axis=0)
    design = np.zeros((2 * len(points), 4))
    design[0::2, 0] = design[1::2, 1] = 1
    design[:, 2] = np.stack([lever[:, 1], -lever[:, 0]], axis=1).ravel()
    design[:, 3] = lever.ravel()
    solution = np.linalg.lstsq(design, moves.ravel(), rcond=None)[0]
    left = moves.ravel() - design @ solution
    error = np.sqrt(np.sum(left**2) / (len(left) - 4) * np.linalg.inv(design.T @ design)[3, 3])
    return solution[3] / 1000, float(error) / 1000, left.reshape(-1, 2)


def through_the_network(exposures: Sequence[RealExposure], seed: int = 1) -> tuple[Floats, Floats]:
    """Let stars fall through the corrected WCS, and find the corrections from the headers' positions.

    Returns
    -------
    Residual vectors in mas of each exposure's middle, shape (E, 3), before and after; the rotation of each module is
    taken out.
    """
    generator = np.random.default_rng(seed)
    middles = [one.corrected(np.array([1023.5]), np.array([1023.5]))[0] for one in exposures]
    centre = (
        np.degrees([np.arctan2(v[1], v[0]) % (2 * np.pi) for v in middles]),
        np.degrees(np.arcsin(np.array(middles)[:, 2])),
    )
    low, high = (np.array([bound(axis) for axis in centre]) for bound in (np.min, np.max))
    margin = np.array([0.03, 0.02])
    low, high = low - margin, high + margin
    area = np.prod(high - low) * 3600 * np.cos(np.radians(low[1]))
    sky = low + (high - low) * generator.random((int(STARS_PER_ARCMIN2 * area), 2))
    parts = []
    for number, one in enumerate(exposures):
        near = unit_vectors(sky) @ middles[number] > np.cos(np.radians(0.03))
        pixels = one.pixels(sky[near])
        pixels = pixels[np.all((pixels > EDGE) & (pixels < 2047 - EDGE), axis=1)]
        scale = 63.0 if one.seen.detector.endswith("LONG") else 31.0
        noisy = pixels + ERROR_MAS / scale * generator.standard_normal(pixels.shape)
        parts.append((np.full(len(pixels), number), one.by_header(*noisy.T), np.full(len(pixels), ERROR_MAS)))
    exposure, vectors, errors = (np.concatenate(part) for part in zip(*parts, strict=True))
    detections = Detections(exposure, vectors, errors, np.ones(len(exposure)))
    network = solve_network([one.seen for one in exposures], detections)
    middle = np.array([1023.5]), np.array([1023.5])
    header = np.concatenate([one.by_header(*middle) for one in exposures])
    nothing = np.zeros(len(exposures))
    moved = network.displaced(Detections(np.arange(len(exposures)), header, nothing, nothing)).vectors
    true = np.concatenate([one.corrected(*middle) for one in exposures])
    # No star of these dithers falls on both modules: nothing tells how they stand to each other.
    before, after = np.zeros_like(true), np.zeros_like(true)
    for module in "AB":
        own = np.array([one.seen.detector[3] == module for one in exposures])
        before[own] = _without_rotation(true[own], header[own])
        after[own] = _without_rotation(true[own], moved[own])
    return before, after


def _without_rotation(true: Floats, found: Floats) -> Floats:
    steps = (found - true) * MAS_PER_RADIAN
    normal = len(true) * np.eye(3) - true.T @ true
    rotation = np.linalg.lstsq(normal, np.cross(true, steps).sum(axis=0), rcond=1e-14)[0]
    return steps - np.cross(rotation, true)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    exposures = read_exposures(parser.parse_args().folder)
    scales, left = aberration_left(exposures)
    modules = np.array([one.seen.detector[3] for one in exposures])
    between = np.hypot(*(left[modules == "A"].mean(axis=0) - left[modules == "B"].mean(axis=0)))
    print(f"{len(exposures)} exposures, 1 - VA_SCALE {scales.min():.4e} to {scales.max():.4e}")
    print(f"left between detectors: up to {np.hypot(*left.T).max():.1f} mas; between modules {between:.1f} mas")
    moves, points = team_corrections(exposures), np.array([one.seen.point for one in exposures])
    pointings = np.array([one.seen.pointing for one in exposures])
    for name in np.unique(pointings):
        own = pointings == name
        scale, error, rest = fit_of_a_pointing(points[own], moves[own])
        print(f"{name}: team's scale {scale:.2e} +- {error:.1e}, rms left {np.sqrt(np.mean(rest**2)):.1f} mas per axis")
    # A scale within a detector has no unknown in the network, and moves all detectors that share its stars.
    scales, residuals = team_scales(exposures), through_the_network(exposures)
    channels = np.array(["long" if one.seen.detector.endswith("LONG") else "short" for one in exposures])
    for name in ("short", "long"):
        own = channels == name
        before, after = (np.sqrt(np.mean(one[own] ** 2) * 1.5) for one in residuals)
        scale = f"{1e6 * scales[own].min():.1f} to {1e6 * scales[own].max():.1f} ppm"
        print(f"team's scales within detectors, {name} wavelengths: {scale}")
        print(
            f"simulated stars through these WCS: {before:.1f} mas per axis by the headers, {after:.2f} by the network"
        )


if __name__ == "__main__":
    main()
