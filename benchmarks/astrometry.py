"""How well the astrometric network finds where exposures point: ``python benchmarks/astrometry.py --json FILE``.

Star tables stand in for pixels: full frames of modules A and B in four filters, in which simulated stars fall where the
simulator's optics put them, with an error each. Residuals are those of the corrected positions against the truth, on
nine points of each detector, rms per axis in mas; what no relative solution can know, one rotation of all, is taken out
except for the absolute residual. ``header`` is what the headers say, ``aberration`` with velocity aberration about a
common point, ``tweakreg`` its fit (tweakwcs, filter by filter, the detectors of an exposure as one) on the same stars.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from tweakwcs.correctors import FITSWCSCorrector
from tweakwcs.imalign import align_wcs
from tweakwcs.matchutils import XYXYMatch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.star_tables import LATTICE, StarField, nominal_view, observe, star_field

from cosmosaic.astrometry.matching import MAS_PER_RADIAN, tangent_axes
from cosmosaic.astrometry.network import Detections, solve_network, tie_to_catalogue
from cosmosaic.astrometry.verdict import Metric, fitted_scale, judge_astrometry, state_of
from cosmosaic.geometry.sphere import directions, unit_vectors

Floats = NDArray[np.floating]

FIELDS = {"deep": 22.0, "sparse": 4.5, "crowded": 220.0}
"""Stars per square arcminute: some 100 and 20 per short-wavelength detector, and a thousand."""
FULL_FRAME_EXPOSURES = 80
"""Of each pointing: four filters, four dithers, ten detectors."""
CELL_ARCMIN = 2.0
REFERENCE_PART = 0.1
REFERENCE_ERROR_MAS = 0.7
TWEAK_PIXEL_ARCSEC, TWEAK_PIXELS = 0.031, 4400
"""An image that holds every detector."""
NO_ERRORS = dict.fromkeys(
    ("pointing_error_mas", "roll_error_arcsec", "placement_error_mas", "filter_offset_mas", "aberration"), 0.0
)
NULL_DRAWS = 20


def residuals(field: StarField, vectors: Floats) -> dict[str, float]:
    """Compare where a method has the nine points of each exposure with the truth; keys as in the JSON."""
    moved = Detections(field.points.exposure, vectors, field.points.errors, field.points.fluxes)
    by_exposure = field.residuals_mas(moved)
    turn = np.radians([frame.roll for frame in field.frames])
    v2 = by_exposure[:, 0] * np.cos(turn) - by_exposure[:, 1] * np.sin(turn)
    v3 = by_exposure[:, 0] * np.sin(turn) + by_exposure[:, 1] * np.cos(turn)
    detectors = np.array([frame.detector for frame in field.frames])
    means = {name: np.stack([v2, v3], axis=1)[detectors == name].mean(axis=0) for name in np.unique(detectors)}
    modules = {module: np.mean([means[name] for name in means if name[3] == module], axis=0) for module in "AB"}
    within = [means[name] - modules[name[3]] for name in means]
    bulk, cells = _between_filters(field, by_exposure)
    return {
        "exposure_mas": float(np.sqrt(np.mean(by_exposure**2))),
        "worst_exposure_mas": float(np.hypot(*by_exposure.T).max()),
        "detector_mas": float(np.sqrt(np.mean(np.square(within)))),
        "module_mas": float(np.hypot(*(modules["A"] - modules["B"]))),
        "filter_mas": bulk,
        "filter_cell_mas": cells,
        "absolute_mas": float(np.hypot(*field.absolute_mas(moved).mean(axis=0))),
    }


def by_network(field: StarField) -> Floats:
    """Where the network, tied to a catalogue of some of the stars, has the points."""
    generator = np.random.default_rng(1)
    known = field.sky[generator.random(len(field.sky)) < REFERENCE_PART]
    axes = tangent_axes(known)
    noise = REFERENCE_ERROR_MAS / MAS_PER_RADIAN * generator.standard_normal((2, len(known), 1))
    reference = known + noise[0] * axes[0] + noise[1] * axes[1]
    network = solve_network(field.seen, field.detections)
    tied, _ = tie_to_catalogue(network, field.detections, reference, np.full(len(known), REFERENCE_ERROR_MAS))
    return tied.displaced(field.points).vectors


def by_tweakreg(field: StarField) -> Floats:
    """Where tweakreg's fit has the points: shift and roll of each exposure, its detectors as one, filter by filter."""
    vectors = field.points.vectors.copy()
    for band in sorted({one.band for one in field.seen}):
        correctors = {number: _corrector(field, number) for number, one in enumerate(field.seen) if one.band == band}
        pixel = 1 / TWEAK_PIXEL_ARCSEC
        match = XYXYMatch(searchrad=pixel, separation=0.2 * pixel, tolerance=0.1 * pixel, use2dhist=True)
        align_wcs(
            list(correctors.values()), expand_refcat=True, match=match, fitgeom="rshift", nclip=3, sigma=(3, "rmse")
        )
        for number, corrector in correctors.items():
            own = field.points.exposure == number
            pixels = corrector.original_wcs.all_world2pix(directions(vectors[own]), 0)
            vectors[own] = unit_vectors(corrector.wcs.all_pix2world(pixels, 0))
    return vectors


def _corrector(field: StarField, number: int) -> FITSWCSCorrector:
    """The stars of an exposure on an undistorted image of it."""
    one = field.seen[number]
    own = field.detections.exposure == number
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = directions(field.points.vectors[field.points.exposure == number][4])[0]
    wcs.wcs.cdelt = [-TWEAK_PIXEL_ARCSEC / 3600, TWEAK_PIXEL_ARCSEC / 3600]
    wcs.pixel_shape = (TWEAK_PIXELS, TWEAK_PIXELS)
    wcs.wcs.crpix = [TWEAK_PIXELS / 2, TWEAK_PIXELS / 2]
    wcs.wcs.set()
    x, y = wcs.all_world2pix(directions(field.detections.vectors[own]), 0).T
    catalog = Table({"x": x, "y": y}, meta={"name": one.name})
    return FITSWCSCorrector(wcs, meta={"catalog": catalog, "group_id": f"{one.visit} {one.pointing}", "name": one.name})


def _between_filters(field: StarField, by_exposure: Floats) -> tuple[float, float]:
    """Largest offset between two filters, of all and in a cell."""
    bands = np.array([frame.band for frame in field.frames])
    places = directions(field.true_points.reshape(len(field.frames), len(LATTICE), 3).mean(axis=1))
    _, cell = np.unique((places * 60 / CELL_ARCMIN).astype(int), axis=0, return_inverse=True)

    def worst(chosen: NDArray[np.bool_]) -> float:
        means = [by_exposure[chosen & (bands == name)].mean(axis=0) for name in np.unique(bands[chosen])]
        return max((float(np.hypot(*(a - b))) for a in means for b in means), default=0.0)

    return worst(np.full(len(bands), True)), max(worst(cell == number) for number in np.unique(cell))


def measure(density: float, pointings: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Residuals of every method on one survey."""
    field = star_field(density, columns=pointings[0], rows=pointings[1])
    left_in = observe(field.frames, density, view=nominal_view)
    methods: dict[str, Callable[[], Floats]] = {
        "header": lambda: left_in.points.vectors,
        "aberration": lambda: field.points.vectors,
        "network": lambda: by_network(field),
    }
    if len(field.frames) < 500 and density < 100:
        methods["tweakreg"] = lambda: by_tweakreg(left_in)
    figures = {}
    for name, method in methods.items():
        start = time.process_time()
        vectors = method()
        seconds = time.process_time() - start
        figures[name] = residuals(field, vectors) | {
            "cpu_s": seconds,
            "cpu_s_per_exposure": seconds / len(field.frames),
        }
    return figures


def injected_faults() -> Iterator[tuple[str, str, tuple[Metric, ...]]]:
    """Yield the name of each fault, the metric that has to tell it, and the verdict."""
    field = star_field(15.0, **NO_ERRORS)
    _, north = tangent_axes(field.detections.vectors)

    def judged(chosen: Sequence[bool], mas: float) -> tuple[Metric, ...]:
        moved = np.array(chosen)[field.detections.exposure][:, None] * north * mas / MAS_PER_RADIAN
        vectors = field.detections.vectors + moved
        detections = Detections(field.detections.exposure, vectors, field.detections.errors, field.detections.fluxes)
        return judge_astrometry(field.seen, detections, field.star)

    off = (field.seen[33].visit, field.seen[33].pointing)
    yield (
        "an exposure off by 20 mas",
        "exposure",
        judged([(one.visit, one.pointing) == off for one in field.seen], 20.0),
    )
    yield "a detector off by 8 mas", "detector", judged([one.detector == "NRCA3" for one in field.seen], 8.0)
    yield "a filter off by 10 mas", "filter", judged([one.band == "F277W" for one in field.seen], 10.0)
    turned = [one.model_copy(update={"roll_error_arcsec": 10.0 * (one.observation == "002")}) for one in field.frames]
    rolled = observe(turned, 15.0)
    yield "a visit rolled by 10 arcsec", "roll", judge_astrometry(rolled.seen, rolled.detections, rolled.star)
    aberrated = star_field(15.0, **(NO_ERRORS | {"aberration": 9e-5}))
    left = observe(aberrated.frames, 15.0, view=nominal_view)
    scale, error = fitted_scale(left.seen, left.detections)
    print(f"aberration of 9e-5 left in: fitted scale between detectors {scale:.2e} +- {error:.1e}")
    yield "aberration left in", "module", judge_astrometry(left.seen, left.detections, left.star)
    east, _ = tangent_axes(field.sky)
    drifted = (field.sky + 30 * east / MAS_PER_RADIAN, np.ones(len(field.sky)))
    yield (
        "a catalogue at the wrong epoch",
        "absolute",
        judge_astrometry(field.seen, field.detections, field.star, drifted),
    )
    generator = np.random.default_rng(4)
    wrong = (generator.random(len(field.star)) < 0.05) * generator.uniform(-50, 50, len(field.star))
    vectors = field.detections.vectors + wrong[:, None] * north / MAS_PER_RADIAN
    astray = Detections(field.detections.exposure, vectors, field.detections.errors, field.detections.fluxes)
    crowded = judge_astrometry(field.seen, astray, field.star)
    flipped = crowded if state_of(crowded) != "pass" else ()
    yield "wrong matches make no fault", "", flipped


def verdict_figures() -> dict[str, int]:
    """How many injected faults are found, and how many perfect surveys pass."""
    found = []
    for name, kind, metrics in injected_faults():
        told = [one for one in metrics if one.name == kind and one.state in ("warn", "fail")]
        found.append(bool(told) if kind else not metrics)
        print(f"{name}: {'found' if found[-1] else 'NOT FOUND'}; {told[0].message if told else ''}", flush=True)
    null = (star_field(15.0, seed, **NO_ERRORS) for seed in range(NULL_DRAWS))
    passes = sum(state_of(judge_astrometry(one.seen, one.detections, one.star)) == "pass" for one in null)
    return {"faults_found": sum(found), "faults": len(found), "null_passes": passes, "null_draws": NULL_DRAWS}


def main() -> None:
    """Run the cases and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["1x1", "2x2", "4x5"], help="pointings of the deep field")
    parser.add_argument("--fields", nargs="*", default=list(FIELDS))
    parser.add_argument("--no-verdict", action="store_true")
    arguments = parser.parse_args()
    figures = {}
    for name in arguments.fields:
        for size in arguments.sizes if name == "deep" else ["2x2"]:
            columns, rows = map(int, size.split("x"))
            for method, values in measure(FIELDS[name], (columns, rows)).items():
                case = f"{method} {name} {columns * rows * FULL_FRAME_EXPOSURES}"
                figures[case] = values
                print(f"{case:24}", {key: round(value, 3) for key, value in values.items()}, flush=True)
    verdict = {} if arguments.no_verdict else verdict_figures()
    print(verdict)
    if arguments.json:
        arguments.json.write_text(json.dumps({"methods": figures, "verdict": verdict}, indent=1))


if __name__ == "__main__":
    main()
