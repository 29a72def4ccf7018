"""How well the astrometric network finds where exposures point: ``python benchmarks/astrometry.py --json FILE``.

Star tables stand in for pixels: full frames of modules A and B in four filters, in which simulated stars fall where the
simulator's optics put them, with an error each. Residuals are those of the corrected positions against the truth, on
nine points of each detector, rms per axis in mas; what no relative solution can know, one rotation of all, is taken out
except for the absolute residual. ``header`` is what the headers say, ``aberration`` with velocity aberration about a
common point, ``tweakreg`` its fit (tweakwcs, filter by filter, the detectors of an exposure as one) on the same stars.

``fwhm_ratio`` is of pixels: eight simulated exposures of 320 x 320 pixels of two detectors in F150W with the same
errors. Stars are found in them, and the mosaic of each method (tweakreg: jwst's step) is compared with one of the same
exposures with their true WCS, star by star; null where no pixels were made. ``worse_mas`` is by how much the exposure
that lost most is farther from the truth than by its header; a quarter of the detections of the crowded field are of
something else. ``scaling`` has the CPU time of the network by the number of exposures.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from astropy.wcs import WCS
from jwst import datamodels
from numpy.typing import NDArray
from tweakwcs.correctors import FITSWCSCorrector
from tweakwcs.imalign import align_wcs
from tweakwcs.matchutils import XYXYMatch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.star_tables import DITHERS, LATTICE, StarField, nominal_view, observe, star_field

from cosmosaic.astrometry.aberration import share_aberration
from cosmosaic.astrometry.align import align_exposure, solve_alignment
from cosmosaic.astrometry.detection import find_exposure_stars
from cosmosaic.astrometry.flux_solution import FluxRequest
from cosmosaic.astrometry.matching import MAS_PER_RADIAN, tangent_axes
from cosmosaic.astrometry.metrics import Metric, state_of
from cosmosaic.astrometry.network import Detections, solve_network, tie_to_catalogue
from cosmosaic.astrometry.solution import AlignRequest, correction
from cosmosaic.astrometry.stars import BRIGHTEST
from cosmosaic.astrometry.survey import solve_survey
from cosmosaic.astrometry.verdict import fitted_scale, held_out_verdict, judge_astrometry, judge_matches
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.geometry.grid import sky_to_pixel, survey_grid
from cosmosaic.geometry.sphere import directions, sky_to_plane, unit_vectors
from cosmosaic.geometry.windows import lattice
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.nircam import star_fwhm_pixels
from cosmosaic.sharpness.shapes import mosaic_shapes
from cosmosaic.simulate.geometry import nominal_wcs_keywords, pixel_to_sky, true_view
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.references import CRDS_CONTEXT, write_crds_cache
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import AlignSettings, DrizzleSettings, FilterPair, SimulationSettings, Survey

Floats = NDArray[np.floating]

FIELDS = {"deep": 22.0, "sparse": 4.5, "crowded": 440.0}
"""Stars per square arcminute: 25, 5 and 500 on a short-wavelength detector, four times as many on the others."""
SIZES = {"sparse": ["2x2"], "crowded": ["1x1"]}
"""Pointings of the fields of one size."""
WRONG_PART, WRONG_MAS = 0.25, 300.0
"""Part of the detections of a crowded field that are of something else, and how far that may be."""
SCALING_SIDES, SCALING_ROUNDS, LARGEST_SCALED = (1, 2, 4), 5, 1600
"""Squares of pointings with 100 exposures each, rounds of timing, and exposures that are solved for each in a round."""
SCALING_STEPS = {"mosaic": (285.0, 120.0), "apart": (400.0, 220.0)}
"""Steps between pointings, arcsec: neighbours overlap, or none do."""
FIFTH_DITHER = (0.3, -0.2)
FULL_FRAME_EXPOSURES = 80
"""Of each pointing: four filters, four dithers, ten detectors."""
CELL_ARCMIN = 2.0
REFERENCE_PART = 0.1
REFERENCE_ERROR_MAS = 0.7
LARGEST_TWEAKED = 500
"""tweakreg takes minutes for more exposures."""
NETWORK = AlignSettings(enabled=True, method="network")
TWEAK_PIXEL_ARCSEC, TWEAK_PIXELS = 0.031, 4400
"""An image that holds every detector."""
NO_ERRORS = dict.fromkeys(
    ("pointing_error_mas", "roll_error_arcsec", "placement_error_mas", "filter_offset_mas", "aberration"), 0.0
)
NULL_DRAWS = 20
PIXELS = SimulationSettings(
    level="cal",
    subarray="SUB320",
    detectors=("NRCB1", "NRCB2"),
    # The second detector comes to see what the first has seen.
    dithers_arcsec=((0.0, -7.1), (0.4, 7.1), (1.0, 6.2), (-1.1, -6.0)),
    filter_pairs=(FilterPair(short="F150W", long="F277W"),),
    stars_per_arcmin2=1500.0,
    galaxies_per_arcmin2=0.0,
    pointing_error_mas=20.0,
    roll_error_arcsec=10.0,
    placement_error_mas=2.0,
    aberration=9e-5,
)
BRIGHT_NJY = 3000.0
"""Stars fainter than this are too noisy for the ratio of widths."""


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


def worse_mas(field: StarField, header: Floats, vectors: Floats) -> float:
    """By how much the exposure that lost most is farther from the truth than by its header."""
    before, after = (
        np.hypot(*field.residuals_mas(replace(field.points, vectors=each)).T) for each in (header, vectors)
    )
    return float(np.max(after - before))


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
    brightest = np.argsort(-field.detections.fluxes[own], kind="stable")[:BRIGHTEST]
    catalog = Table({"x": x[brightest], "y": y[brightest]}, meta={"name": one.name})
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


def astray(field: StarField) -> StarField:
    """A part of the detections is of something else."""
    generator = np.random.default_rng(7)
    wrong = generator.random(len(field.star)) < WRONG_PART
    moves = wrong[:, None] * generator.uniform(-WRONG_MAS, WRONG_MAS, (len(wrong), 2)) / MAS_PER_RADIAN
    moved = np.einsum("na,ani->ni", moves, np.stack(tangent_axes(field.detections.vectors)))
    return replace(field, detections=replace(field.detections, vectors=field.detections.vectors + moved))


def measure(name: str, pointings: tuple[int, int]) -> dict[str, dict[str, float | None]]:
    """Residuals of every method on one survey."""
    density = FIELDS[name]
    field = star_field(density, columns=pointings[0], rows=pointings[1])
    left_in = observe(field.frames, density, view=nominal_view)
    if name == "crowded":
        field, left_in = astray(field), astray(left_in)
    methods: dict[str, Callable[[], Floats]] = {
        "header": lambda: left_in.points.vectors,
        "aberration": lambda: field.points.vectors,
        "network": lambda: by_network(field),
    }
    if len(field.frames) < LARGEST_TWEAKED:
        methods["tweakreg"] = lambda: by_tweakreg(left_in)
    figures = {}
    for method, found in methods.items():
        start = time.process_time()
        vectors = found()
        seconds = time.process_time() - start
        figures[method] = residuals(field, vectors) | {
            "worse_mas": worse_mas(field, left_in.points.vectors, vectors),
            "fwhm_ratio": None,
            "cpu_s": seconds,
            "cpu_s_per_exposure": seconds / len(field.frames),
        }
    return figures


def scaling() -> dict[str, dict[str, list[float] | float]]:
    """CPU time of the network by the number of exposures: the least of several, and their scatter."""
    figures: dict[str, dict[str, list[float] | float]] = {}
    for name, step in SCALING_STEPS.items():
        fields = [
            star_field(FIELDS["deep"], columns=side, rows=side, step_arcsec=step, dithers=(*DITHERS, FIFTH_DITHER))
            for side in SCALING_SIDES
        ]
        times: list[list[float]] = [[] for _ in fields]
        # Sizes by turns, because the machine's speed changes by the minute.
        for _ in range(SCALING_ROUNDS):
            for field, own in zip(fields, times, strict=True):
                own += [_solving_s(field) for _ in range(max(1, LARGEST_SCALED // len(field.frames)))]
        counts = np.array([len(field.frames) for field in fields])
        least = np.array([min(own) for own in times]) / counts
        figures[name] = {
            "exposures": counts.tolist(),
            "cpu_ms_per_exposure": (1000 * least).tolist(),
            "relative_scatter": [float(np.std(own) / np.mean(own)) for own in times],
            "detections_of_a_star": [float(np.mean(np.bincount(one.star)[one.star])) for one in fields],
            "power": 1 + float(np.polyfit(np.log(counts), np.log(least), 1)[0]),
        }
        print(f"scaling, {name}:", figures[name], flush=True)
    return figures


def _solving_s(field: StarField) -> float:
    start = time.process_time()
    solve_network(field.seen, field.detections)
    return time.process_time() - start


def step_cpu_s() -> float:
    """CPU time of an exposure in the whole step from star tables to corrections, verdict, pictures and flux scales."""
    field = star_field(FIELDS["deep"])
    names = [frame.name for frame in field.frames]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stars = {one: folder / f"{one}_stars.ecsv" for one in names}
        for number, (frame, path) in enumerate(zip(field.frames, stars.values(), strict=True)):
            _write_stars(frame, field.detections.select(field.detections.exposure == number), path)
        request = AlignRequest(settings=NETWORK, fwhm_pixels=0.0, exposures=dict.fromkeys(names, ""))
        start = time.process_time()
        solve_survey(stars, None, request, FluxRequest(exposures={}, detectors={}), (), "mock_align", folder)
        seconds = (time.process_time() - start) / len(names)
    print(f"the whole step: {seconds:.3f} s of CPU an exposure of {len(names)}", flush=True)
    return seconds


def _write_stars(frame: PlannedExposure, found: Detections, path: Path) -> None:
    ra, dec = directions(found.vectors).T
    error = found.errors / (63.0 if "LONG" in frame.detector else 31.0) * u.pix
    flux = 10 ** (0.4 * (31.4 + found.fluxes)) * u.nJy
    columns = {"x_err": error, "y_err": error, "ra": ra * u.deg, "dec": dec * u.deg, "flux": flux}
    table = QTable(columns | {"flux_err": 0.01 * flux})
    keywords = nominal_wcs_keywords(frame)
    table.meta |= {name: keywords[name] for name in ("v2_ref", "v3_ref", "ra_ref", "dec_ref", "roll_ref")}
    table.meta |= {"exposure": frame.name, "pointing": frame.name.rpartition("_")[0], "visit": frame.observation}
    table.meta |= {"detector": frame.detector, "band": frame.band, "epoch": 2023.0, "va_scale": frame.va_scale}
    table.write(path, format="ascii.ecsv")


def fwhm_ratios(folder: Path) -> dict[str, float]:
    """FWHM of stars in the mosaic of each method over that with the true WCS: the median over stars."""
    # jwst's steps look for references, which none of these exposures needs.
    write_crds_cache(PIXELS, folder / "crds")
    os.environ |= {"CRDS_PATH": str(folder / "crds"), "CRDS_CONTEXT": CRDS_CONTEXT, "CRDS_READONLY_CACHE": "1"}
    os.environ.pop("CRDS_SERVER_URL", None)
    frames = plan_exposures(PIXELS)
    scene = survey_scene(PIXELS, frames)
    cals = {one.name: simulate_exposure(one, scene, PIXELS, folder / "header")[0] for one in frames}
    survey = Survey(name="mock", drizzle=DrizzleSettings(errors="none"))
    window = survey_grid(
        survey.grid, {one.name: one.footprint for one in map(describe_exposure, map(str, cals.values()))}
    )
    exposures = {"header": cals, "aberration": _shared(cals, folder / "aberration")}
    exposures["network"] = _by_network(exposures["aberration"], folder / "network")
    exposures["tweakreg"] = _by_tweakreg(cals, folder / "tweakreg")
    exposures["truth"] = _as_in_truth(frames, cals, folder / "truth")
    stars = scene[(scene["kind"] == "star") & (scene["flux_F150W"] > BRIGHT_NJY)]
    places = sky_to_pixel(lattice(window), np.stack([stars["ra"], stars["dec"]], axis=1))
    shapes = {}
    for name, paths in exposures.items():
        with ThreadPoolExecutor(1) as pool:
            mosaic, _ = make_mosaic(list(paths.values()), {}, window, survey, folder / f"{name}-mosaic", pool)
        found = mosaic_shapes(mosaic, places, window)
        pairs = zip(found.places, found.sigma, strict=True)
        shapes[name] = {tuple(place): sigma for place, sigma in pairs if np.isfinite(sigma)}
    ratios = {}
    for name, found in shapes.items():
        both = [found[place] / true for place, true in shapes["truth"].items() if place in found]
        ratios[name] = float(np.median(both))
        print(f"FWHM of stars, {name:10} over truth: {ratios[name]:.4f} of {len(both)} stars", flush=True)
    return ratios


def _shared(cals: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    folder.mkdir()
    return {name: share_aberration(path, folder).files["cal"] for name, path in cals.items()}


def _by_network(cals: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    folder.mkdir()
    stars = {name: find_exposure_stars(path, 10.0, folder).files["stars"] for name, path in cals.items()}
    made = solve_survey(
        stars, None, _request("network", cals), FluxRequest(exposures={}, detectors={}), (), "mock_align", folder
    )
    return {
        name: align_exposure(cals[name], path, folder).files["cal"] for name, path in made.files["corrections"].items()
    }


def _by_tweakreg(cals: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    (folder / "out").mkdir(parents=True)
    made = solve_alignment(cals, None, _request("tweakreg", cals), "mock_align", folder / "out")
    return {
        name: align_exposure(cals[name], path, folder).files["cal"] for name, path in made.files["corrections"].items()
    }


def _request(method: str, cals: Mapping[str, Path]) -> AlignRequest:
    settings = AlignSettings(enabled=True, method=method, fit="rshift")
    return AlignRequest(settings=settings, fwhm_pixels=star_fwhm_pixels("F150W"), exposures=dict.fromkeys(cals, ""))


def _as_in_truth(frames: Sequence[PlannedExposure], cals: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """The exposures with the WCS that they truly have."""
    folder.mkdir()
    x, y = (each.ravel() for each in np.meshgrid([10.0, 160.0, 310.0], [10.0, 160.0, 310.0]))
    made = {}
    for frame in frames:
        with datamodels.open(cals[frame.name]) as model:
            header, info = np.transpose(model.meta.wcs(x, y)), model.meta.wcsinfo.instance
        tangent = (info["ra_ref"], info["dec_ref"])
        before, after = (
            sky_to_plane(tangent, sky) for sky in (header, np.transpose(pixel_to_sky(frame, true_view(frame), x, y)))
        )
        design = np.column_stack([before, np.ones(len(before))])
        fit = np.linalg.lstsq(design, after, rcond=None)[0]
        path = folder / f"{frame.name}_correction.json"
        path.write_text(correction(fit[:2].T, fit[2]).model_dump_json())
        made[frame.name] = align_exposure(cals[frame.name], path, folder).files["cal"]
    return made


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
    crowd = star_field(150.0, rows=1, **NO_ERRORS)
    generator = np.random.default_rng(4)
    wrong = (generator.random(len(crowd.star)) < 0.25) * generator.uniform(-50, 50, len(crowd.star))
    _, north = tangent_axes(crowd.detections.vectors)
    vectors = crowd.detections.vectors + wrong[:, None] * north / MAS_PER_RADIAN
    astray = Detections(crowd.detections.exposure, vectors, crowd.detections.errors, crowd.detections.fluxes)
    rest = judge_astrometry(crowd.seen, astray, crowd.star)
    # They are told, and make no exposure, detector or filter wrong.
    told = (judge_matches(astray, crowd.star),) if state_of(rest) == "pass" else ()
    yield "a quarter of wrong matches in a crowded field", "matches", told


def verdict_figures() -> dict[str, int]:
    """How many injected faults are found, and how many perfect surveys pass."""
    found = []
    for name, kind, metrics in injected_faults():
        told = [one for one in metrics if one.name == kind and one.state in ("warn", "fail")]
        found.append(bool(told))
        print(f"{name}: {'found' if found[-1] else 'NOT FOUND'}; {told[0].message if told else ''}", flush=True)
    null = (star_field(15.0, seed, **NO_ERRORS) for seed in range(NULL_DRAWS))
    # By the headers, which are right, and by a network, each with the stars that it has not seen.
    passes = sum(
        all(state_of(each.metrics) == "pass" for each in held_out_verdict(one.seen, one.detections)) for one in null
    )
    return {"faults_found": sum(found), "faults": len(found), "null_passes": passes, "null_draws": NULL_DRAWS}


def main() -> None:
    """Run the cases and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["1x1", "2x2", "4x5"], help="pointings of the deep field")
    parser.add_argument("--fields", nargs="*", default=list(FIELDS))
    parser.add_argument("--no-verdict", action="store_true")
    parser.add_argument("--no-pixels", action="store_true")
    parser.add_argument("--no-timing", action="store_true")
    arguments = parser.parse_args()
    figures = {}
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        ratios = {} if arguments.no_pixels else fwhm_ratios(Path(folder))
    for name in arguments.fields:
        for size in SIZES.get(name, arguments.sizes):
            columns, rows = map(int, size.split("x"))
            for method, values in measure(name, (columns, rows)).items():
                case = f"{method} {name} {columns * rows * FULL_FRAME_EXPOSURES}"
                figures[case] = values | ({"fwhm_ratio": ratios[method]} if name == "deep" and method in ratios else {})
                told = {key: round(value, 4) for key, value in figures[case].items() if value is not None}
                print(f"{case:24}", told, flush=True)
    verdict = {} if arguments.no_verdict else verdict_figures()
    print(verdict)
    timed = {} if arguments.no_timing else {"scaling": scaling(), "step_cpu_s_per_exposure": step_cpu_s()}
    if arguments.json:
        arguments.json.write_text(json.dumps({"methods": figures, "verdict": verdict} | timed, indent=1))


if __name__ == "__main__":
    main()
