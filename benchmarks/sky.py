"""How well each method finds the sky on simulated surveys: ``python benchmarks/sky.py --json FILE``.

Levels are compared with the mean of all that an exposure holds besides sources, after the flat; of exposures from which
stripes and wisps were taken, with what is left of that. The pixel rms is that of one exposure. The rms of a
mosaic's pixels is the drizzled one at 30 mas, pixfrac 1: 0.65 of the pixel rms over the root of the depth.
Where light fills a field, what is recovered is compared with the light that was put in, cell by cell outside of compact
sources: its slope, its rms about the mean offset, which nothing can tell without empty sky, and that offset.
Gradients are scored on a field of their own, by the planes that a method leaves in its exposures; the extended galaxy's
profile by how much too bright the sky is that a method takes out, in three rings of a half-light radius each.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from astropy.nddata import block_reduce
from jwst import datamodels
from scipy import ndimage
from sky_fields import (
    PIXEL_RMS_MJY_SR,
    ExposureTruth,
    Field,
    bright_wisps_field,
    crowded_field,
    deep_field,
    galaxy_field,
    make_field,
    nebula_field,
    random_field,
    sparse_field,
    tilted_field,
)

from cosmosaic.artefacts.corrections import measure_wisps, remove_flicker, subtract_wisp
from cosmosaic.artefacts.solution import WispSolution
from cosmosaic.artefacts.wisps import BLOCK
from cosmosaic.calibrate.stages import clean_flicker_noise
from cosmosaic.catalog.measure import make_psf, measure_sources
from cosmosaic.cells.binning import bin_exposure, bin_exposures, cell_positions, usable_pixels
from cosmosaic.cells.survey import CellSurvey, stack, without_patterns
from cosmosaic.cells.units import bin_masked_exposure, read_cells
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.library import exposure_name
from cosmosaic.exposures.patterns import pattern_image
from cosmosaic.geometry.grid import pixel_to_sky, survey_grid
from cosmosaic.geometry.windows import lattice
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.nircam import DRAWN_SHORT_PIXEL_ARCSEC, WISP_DETECTORS
from cosmosaic.provenance import save_model
from cosmosaic.simulate.references import CRDS_CONTEXT, write_crds_cache
from cosmosaic.sky.methods import (
    METHODS,
    Sky,
    SkyInputs,
    bright_cells,
    clean,
    find_sources,
    measure,
    solve_overlaps,
    values_of,
)
from cosmosaic.sky.stripes import destripe
from cosmosaic.survey import CatalogSettings, GridSettings, Survey
from cosmosaic.verdict.verdict import Verdict, make_judge, pure_noise, rank

DEFAULT = "overlap"
DRIZZLE_NOISE = 0.65
HALF_LIGHT_AREA_ARCSEC2 = np.pi * 4.0**2 * 0.8
ARCSEC2_PER_SR = (180 * 3600 / np.pi) ** 2
RANKED = ("none", "local-per-detector", "global+match", "median", "pedestal", "overlap")
ORDER = (*RANKED[::-1], *(method for method in METHODS if method not in (*RANKED, "user")))
GALAXY_RADIUS_PIXELS = 4.0 / DRAWN_SHORT_PIXEL_ARCSEC
PROFILE_RADII = 3
PLANE_STEP = 4
"""Every so many rows and columns tell the plane of an exposure."""
FLICKER_EXPOSURES = 2
NULL_DRAWS = 20
PROCESSES = 2
RANDOM_SURVEYS = 10


@dataclass(frozen=True)
class Sample:
    """A field ready to be measured on."""

    field: Field
    paths: list[Path]
    truth: list[ExposureTruth]
    levels: dict[str, float]
    """True level of each exposure, MJy/sr."""
    slopes: dict[str, Any]
    """True slopes of each exposure along columns and rows, MJy/sr from edge to edge."""
    survey: CellSurvey
    steps: dict[str, list[Path]]
    """Exposures after each correction."""

    @property
    def rms(self) -> float:
        return self.survey.pixel_rms

    @cached_property
    def empty(self) -> Any:
        """Truly empty cells, shape of the lattice."""
        return _empty_cells(self.survey, self.truth)

    def sky_of(self, method: str, folder: Path) -> Sky:
        """What a method finds."""
        return measure(method, SkyInputs(self.survey, self.paths, None, folder))


def prepare(field: Field, folder: Path, pool: Executor, *, corrected: bool) -> Sample:
    """Make a field's exposures, take 1/f noise and wisps out where asked, and find the true levels of what is left."""
    truth = make_field(field, folder / field.name, pool)
    steps = {"raw": [frame.path for frame in truth]}
    paths = steps["raw"]
    if corrected:
        for name, remove in (("flicker", without_flicker), ("corrected", without_wisps), ("destriped", destriped)):
            paths = steps[name] = _made_once(remove, paths, folder / f"{field.name}-{name}", pool)
    fitted = dict(zip([frame.name for frame in truth], pool.map(_level_and_slopes, truth, paths), strict=True))
    levels, slopes = ({name: each[part] for name, each in fitted.items()} for part in (0, 1))
    return Sample(field, paths, truth, levels, slopes, bin_exposures(paths), steps)


def _level_and_slopes(frame: ExposureTruth, path: Path) -> tuple[float, Any]:
    left, usable = _what_is_left(frame, path)
    return float(left[usable].mean()), _slopes(left, usable)


def _slopes(image: Any, usable: Any) -> Any:
    """Slopes of an image along columns and rows, from edge to edge."""
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, size) for size in image.shape), indexing="ij")
    thin = np.s_[::PLANE_STEP, ::PLANE_STEP]
    chosen = usable[thin]
    matrix = np.stack([np.ones(int(chosen.sum())), x[thin][chosen], y[thin][chosen]], axis=1)
    return np.linalg.lstsq(matrix, image[thin][chosen], rcond=None)[0][1:]


def _what_is_left(frame: ExposureTruth, path: Path) -> tuple[Any, Any]:
    """All of a corrected exposure that is no source, and its usable pixels."""
    with datamodels.open(frame.path) as raw, datamodels.open(path) as final:
        return frame.additive - (raw.data - final.data), usable_pixels(final)


def _made_once(remove: Any, paths: list[Path], folder: Path, pool: Executor) -> list[Path]:
    made = [folder / path.name for path in paths]
    if not all(path.exists() for path in made):
        folder.mkdir(exist_ok=True)
        remove(paths, folder, pool)
        print(f"{folder.name}: made", flush=True)
    return made


def without_flicker(paths: list[Path], folder: Path, pool: Executor) -> None:
    """Take 1/f noise out by the fast correction."""
    list(pool.map(partial(_without_flicker, folder), paths))


def _without_flicker(folder: Path, path: Path) -> None:
    with datamodels.open(path) as model:
        remove_flicker(model)
        save_model(model, folder / path.name)


def _without_flicker_by_jwst(folder: Path, path: Path) -> None:
    """Take 1/f noise out by jwst's step, as the main job calls it; these exposures are flat-fielded already."""
    with datamodels.open(path) as model:
        save_model(clean_flicker_noise(model, apply_flat_field=False), folder / path.name)


def without_wisps(paths: list[Path], folder: Path, pool: Executor) -> None:
    """Take wisps out, detector by detector."""
    by_detector = defaultdict(list)
    for path in paths:
        by_detector[path.name.split("_cal")[0].rsplit("_", 1)[1].upper()].append(path)
    for detector in by_detector.keys() - WISP_DETECTORS:
        for path in by_detector.pop(detector):
            (folder / path.name).symlink_to(path)
    list(pool.map(partial(_without_wisps, folder), by_detector.keys(), by_detector.values()))


def _without_wisps(folder: Path, detector: str, paths: list[Path]) -> None:
    exposures = {exposure_name(path.name): path for path in paths}
    nobody = WispSolution(exposures=dict.fromkeys(exposures, ""), kept=False)
    wisps = measure_wisps(exposures, None, nobody, f"{detector.lower()}_wisp", folder).files["wisps"]
    for name, path in exposures.items():
        subtract_wisp(path, wisps.get(name), folder)


def destriped(paths: list[Path], folder: Path, pool: Executor) -> None:
    """Take slow stripes out."""
    survey = bin_exposures(paths)
    levels = find_sources(survey).levels
    _, stripes = destripe(survey, values_of(levels), ~bright_cells(survey, levels))
    list(pool.map(partial(_destriped, folder), paths, (stripes[name] for name in survey.names)))


def _destriped(folder: Path, path: Path, stripes: list[Any]) -> None:
    with datamodels.open(path) as model:
        model.data -= pattern_image(stripes, usable_pixels(model))
        save_model(model, folder / path.name)


def score(sample: Sample, levels: dict[str, float]) -> dict[str, float]:
    """Errors of a method's levels, in per cent."""
    errors = {name: 100 * (levels[name] - true) / sample.rms for name, true in sample.levels.items()}
    values = np.array(list(errors.values()))
    pairs = [
        errors[a.name] - errors[b.name] for a, b in combinations(sample.survey.exposures, 2) if _are_neighbours(a, b)
    ]
    return {
        "level": float(np.sqrt(np.mean(values**2))),
        "step": float(np.sqrt(np.mean(np.square(pairs)))),
        "bias": _mosaic_bias(sample, errors),
        "halo": _halo(sample, levels),
    }


def _are_neighbours(a: Any, b: Any) -> bool:
    low = np.maximum(a.origin, b.origin)
    high = np.minimum(np.add(a.origin, a.mean.shape), np.add(b.origin, b.mean.shape))
    return a.group == b.group or bool(np.all(low < high))


def _mosaic_bias(sample: Sample, errors: dict[str, float]) -> float:
    """Mean of the mosaic's truly empty sky in per cent of the mosaic's pixel rms."""
    total, weights = (np.zeros(sample.survey.grid.shape) for _ in range(2))
    for exposure in sample.survey.exposures:
        total[exposure.window] += exposure.pixels * -errors[exposure.name]
        weights[exposure.window] += exposure.pixels
    empty, depth = sample.empty & (weights > 0), len(sample.field.settings.dithers_arcsec)
    return float(np.mean(total[empty] / weights[empty])) / (DRIZZLE_NOISE / np.sqrt(depth))


def _empty_cells(survey: CellSurvey, truth: list[ExposureTruth]) -> Any:
    """Cells of the lattice in which every pixel of every exposure is truly empty."""
    lit = np.zeros(survey.grid.shape, dtype=bool)
    for frame in truth:
        with datamodels.open(frame.path) as model:
            row, column = cell_positions(model.meta.wcs, frame.shape, survey.grid)
        occupied = ~frame.empty
        lit[row[occupied], column[occupied]] = True
    return ~lit


def _halo(sample: Sample, levels: dict[str, float]) -> float:
    """Flux that the extended galaxy loses within its half-light radius, per cent."""
    if sample.field.galaxy_magnitude is None:
        return 0.0
    inside = [
        levels[frame.name] - sample.levels[frame.name]
        for frame in sample.truth
        if frame.galaxy is not None and all(0 < p < size for p, size in zip(frame.galaxy, frame.shape, strict=True))
    ]
    return _part_of_galaxy(sample.field, float(np.mean(inside)))


def _gradient(sample: Sample, sky: Sky) -> float:
    """Rms of the planes that are left in the exposures, in per cent of the pixel rms."""
    left = [
        slopes - (_slopes(_pattern(sky, name, truth.shape), np.ones(truth.shape, dtype=bool)))
        for truth, (name, slopes) in zip(sample.truth, sample.slopes.items(), strict=True)
    ]
    # A plane of slope 1 from edge to edge has a variance of 1/12.
    return 100 * float(np.sqrt(np.mean(np.sum(np.square(left), axis=1)) / 12)) / sample.rms


def _profile(sample: Sample, sky: Sky) -> list[float]:
    """How much too bright the sky is that is taken out around the galaxy, by radius, in per cent of the pixel rms."""
    rings: list[list[float]] = [[] for _ in range(PROFILE_RADII)]
    for frame, path in zip(sample.truth, sample.paths, strict=True):
        if not _holds_galaxy(frame):
            continue
        left, usable = _what_is_left(frame, path)
        excess = sky.levels[frame.name].value + _pattern(sky, frame.name, frame.shape) - left
        y, x = np.indices(frame.shape)
        radius = np.hypot(x - frame.galaxy[0], y - frame.galaxy[1]) / GALAXY_RADIUS_PIXELS
        for number, ring in enumerate(rings):
            ring.append(float(excess[usable & (radius >= number) & (radius < number + 1)].mean()))
    return [100 * float(np.mean(ring)) / sample.rms for ring in rings]


def _pattern(sky: Sky, name: str, shape: tuple[int, int]) -> Any:
    """What a method takes out of an exposure beside its level."""
    patterns = sky.patterns.get(name)
    return pattern_image(patterns, np.ones(shape, dtype=bool)) if patterns else np.zeros(shape, dtype=np.float32)


def _recovered(sample: Sample, sky: Sky) -> dict[str, float]:
    """How what is left in the stack follows the light that fills the field."""
    survey = sample.survey
    found = stack(without_patterns(survey, sky.patterns), values_of(sky.levels))
    rows, columns = np.indices(survey.grid.shape)
    places = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
    true = sample.field.emission_at(pixel_to_sky(survey.grid, places)).reshape(survey.grid.shape)
    free = sample.empty & np.isfinite(found)
    left = (found - true)[free]
    return {
        "slope": float(np.polyfit(true[free], found[free], 1)[0]),
        "rms_mjy_sr": float(np.std(left)),
        "offset_mjy_sr": float(np.mean(left)),
        "step_pct": score(sample, values_of(sky.levels))["step"],
    }


def _part_of_galaxy(field: Field, brightness: float) -> float:
    """Surface brightness in MJy/sr over the galaxy's half-light ellipse, in per cent of the flux in it."""
    flux_jy = brightness * 1e6 * HALF_LIGHT_AREA_ARCSEC2 / ARCSEC2_PER_SR
    return 100 * flux_jy / (0.5 * 3631 * 10 ** (-0.4 * field.galaxy_magnitude))


def measure_method(method: str, samples: dict[str, Sample], folder: Path) -> dict[str, Any]:
    """Score a method on all fields."""
    start = time.process_time()
    found = {name: sample.sky_of(method, folder) for name, sample in samples.items()}
    cost = (time.process_time() - start) / sum(len(sample.paths) for sample in samples.values())
    sparse, crowded = (score(samples[name], values_of(found[name].levels)) for name in ("sparse", "crowded"))
    figures = {
        "level_pct": sparse["level"],
        "level_crowded_pct": crowded["level"],
        "step_sparse_pct": sparse["step"],
        "step_crowded_pct": crowded["step"],
        "bias_sparse_pct": sparse["bias"],
        "bias_crowded_pct": crowded["bias"],
        "halo_pct": crowded["halo"],
        "profile_pct": _profile(samples["crowded"], found["crowded"]),
        "gradient_pct": _gradient(samples["tilted"], found["tilted"]),
        "nebula": _recovered(samples["nebula"], found["nebula"]),
        "large_galaxy": _recovered(samples["galaxy"], found["galaxy"]),
        "bias_deep_short_pct": score(samples["deep-short"], values_of(found["deep-short"].levels))["bias"],
        "bias_deep_long_pct": score(samples["deep-long"], values_of(found["deep-long"].levels))["bias"],
        "cpu_s_per_exposure": cost,
    }
    print(method, json.dumps(figures), flush=True)
    return figures


def ranked_first(folder: Path, surveys: int, pool: Executor) -> int:
    """Count the random surveys on which the verdict's winner is the truly best method, or within 10 % of it."""
    hits = 0
    for seed in range(surveys):
        sample = prepare(random_field(seed), folder, pool, corrected=True)
        found = {method: sample.sky_of(method, folder) for method in RANKED}
        true = {method: score(sample, values_of(sky.levels))["level"] for method, sky in found.items()}
        (winner, verdict), best = rank(sample.survey, found)[0], min(true, key=lambda method: true[method])
        hits += bool(true[winner] <= 1.1 * true[best])
        print(
            f"{sample.field.name}: verdict {winner} {verdict.score:.2f}, truly",
            {k: round(v, 2) for k, v in true.items()},
            flush=True,
        )
    return hits


def faults_found(samples: dict[str, Sample]) -> tuple[int, int]:
    """Inject faults after the sky step, and count those that the verdict finds."""
    found = total = 0
    for sample in samples.values():
        levels = values_of(sample.sky_of(DEFAULT, Path()).levels)
        faultless = make_judge(sample.survey).judge(levels)
        _print(f"{sample.field.name}: no fault", faultless)
        for fault, name, survey, changed in _faults(sample, levels):
            verdict = make_judge(survey).judge(changed)
            before, after = (next(m for m in v.metrics if m.name == name) for v in (faultless, verdict))
            hit = after.state in ("warn", "fail") and after.value > before.value + 4 * after.error
            found, total = found + bool(hit), total + 1
            _print(f"{sample.field.name}: {fault} {'found' if hit else 'MISSED'}", verdict)
    return found, total


def _faults(sample: Sample, levels: dict[str, float]) -> list[tuple[str, str, CellSurvey, dict[str, float]]]:
    survey, name = sample.survey, sample.survey.names[5]
    faults = [
        ("step of 5 %", "step", survey, levels | {name: levels[name] + 0.05 * sample.rms}),
        ("not subtracted", "step", survey, levels | {name: 0.0}),
        ("subtracted twice", "step", survey, levels | {name: 2 * levels[name]}),
        ("over-subtracted halo", "halo", _with_hole(survey, 0.1 * sample.rms), levels),
    ]
    if sample.field.settings.flicker_noise:
        raw = _exposures_of(survey, [sample.steps["raw"][5]])
        left = raw[0].mean - np.nanmean(raw[0].mean) + np.nanmean(survey.exposures[5].mean)
        faults.append(("1/f left in", "rows", _replaced(survey, {name: left}), levels))
    if sample.field.settings.wisp_mjy_sr:
        faults.append(("wisp left in", "detector", _with_wisps(sample), levels))
    return faults


def _exposures_of(survey: CellSurvey, paths: list[Path]) -> list[Any]:
    exposures = []
    for path in paths:
        with datamodels.open(path) as model:
            exposures.append(bin_exposure(model, survey.grid))
    return exposures


def _replaced(survey: CellSurvey, means: dict[str, Any]) -> CellSurvey:
    return CellSurvey(
        survey.grid,
        tuple(
            replace(e, mean=np.where(e.usable, means[e.name], np.nan)) if e.name in means else e
            for e in survey.exposures
        ),
    )


def _with_hole(survey: CellSurvey, depth: float) -> CellSurvey:
    """A ring too low, 3 to 6 arcsec from the brightest extended source, in all exposures."""
    sources, levels = find_sources(survey)[:2]
    labels, number = ndimage.label(sources)
    sizes = ndimage.sum_labels(np.ones(sources.shape), labels, np.arange(1, number + 1))
    seen = np.isfinite(stack(survey, values_of(levels)))
    distance = ndimage.distance_transform_edt(labels != 1 + int(np.argmax(sizes)))
    hole = depth * (seen & (distance > 0) & (distance < 16))
    return _replaced(survey, {e.name: e.mean - hole[e.window] for e in survey.exposures})


def _with_wisps(sample: Sample) -> CellSurvey:
    means = {}
    for index, exposure in enumerate(sample.survey.exposures):
        if exposure.detector == "NRCB4":
            with_wisp, without = _exposures_of(
                sample.survey, [sample.steps["flicker"][index], sample.steps["corrected"][index]]
            )
            means[exposure.name] = exposure.mean + with_wisp.mean - without.mean
    return _replaced(sample.survey, means)


def null_passes(sample: Sample, draws: int) -> int:
    """Count the draws of pure noise that pass."""
    passed = 0
    for seed in range(draws):
        noise = pure_noise(sample.survey, seed)
        verdict = make_judge(noise).judge(values_of(solve_overlaps(clean(noise)).levels))
        _print(f"{sample.field.name}: pure noise {seed}", verdict)
        passed += verdict.state == "pass"
    return passed


def _print(title: str, verdict: Verdict) -> None:
    metrics = " ".join(f"{m.name} {m.value:.2f}+-{m.error:.2f} {m.state}" for m in verdict.metrics)
    print(f"{title}: {verdict.state}; growth {verdict.growth:.2f}; {metrics}", flush=True)


def flicker_methods(sample: Sample, folder: Path) -> dict[str, dict[str, float]]:
    """What corrections of 1/f noise leave, take from the extended galaxy, and cost, on the exposures that hold it."""
    chosen = [index for index, frame in enumerate(sample.truth) if _holds_galaxy(frame)][:FLICKER_EXPOSURES]
    paths = [sample.steps["raw"][index] for index in chosen]
    found: dict[str, dict[str, float]] = {}
    cost, corrected = {}, {}
    for name, remove in {"none": None, "jwst": _without_flicker_by_jwst, "fast": _without_flicker}.items():
        start, made = time.process_time(), paths
        if remove:
            target = folder / f"flicker-{name}"
            target.mkdir(exist_ok=True)
            for path in paths:
                remove(target, path)
            made = [target / path.name for path in paths]
        cost[name] = (time.process_time() - start) / len(paths)
        corrected[name] = made
    corrected["fast and slow stripes"] = [sample.steps["destriped"][index] for index in chosen]
    for name, made in corrected.items():
        scores = [_left_by(sample, sample.truth[index], path) for index, path in zip(chosen, made, strict=True)]
        found[name] = {key: float(np.mean([each[key] for each in scores])) for key in scores[0]}
        found[name] |= {"cpu_s_per_exposure": cost[name]} if name in cost else {}
        print("flicker", name, {key: round(value, 3) for key, value in found[name].items()}, flush=True)
    return found


def _holds_galaxy(frame: ExposureTruth) -> bool:
    return frame.galaxy is not None and all(
        130 < place < size - 130 for place, size in zip(frame.galaxy, frame.shape, strict=True)
    )


def _left_by(sample: Sample, frame: ExposureTruth, path: Path) -> dict[str, float]:
    left, usable = _what_is_left(frame, path)
    left = np.where(usable, left - np.mean(left[usable]), np.nan)
    y, x = np.indices(left.shape)
    inside = np.hypot(x - frame.galaxy[0], y - frame.galaxy[1]) < GALAXY_RADIUS_PIXELS
    unit = 100 / sample.rms
    blocks = left.reshape(left.shape[0] // 64, 64, left.shape[1] // 64, 64)
    return {
        # The four outermost rows and columns are reference pixels.
        "rows_pct": unit * float(np.std(np.nanmean(left[4:-4], axis=1))),
        "columns_pct": unit * float(np.std(np.nanmean(left[:, 4:-4], axis=0))),
        "blocks_pct": unit * float(np.nanstd(np.nanmean(blocks, axis=(1, 3)))),
        "galaxy_pct": _part_of_galaxy(sample.field, -float(np.nanmean(left[inside]))),
    }


def second_pass(sample: Sample, folder: Path, pool: Executor) -> dict[str, dict[str, float]]:
    """Errors of the default's levels, and of those measured outside of the sources of the mosaic that they make."""
    first = values_of(sample.sky_of(DEFAULT, folder).levels)
    window = survey_grid(GridSettings(), {path.name: read_footprint(path) for path in sample.paths})
    made = folder / f"{sample.field.name}-second"
    mosaic = make_mosaic(sample.paths, first, window, Survey(name="first", raw="given"), made, pool)[0]
    settings = CatalogSettings()
    psf = make_psf(mosaic, None, settings.background_box_arcsec, 1.0, "F150W", "first", made).files["psf"]
    mask = measure_sources({"F150W": mosaic}, {"F150W": psf}, settings, "first", made).files["segments"]
    cells = lattice(sample.survey.grid)
    masked = read_cells([bin_masked_exposure(path, mask, cells, made).files["cells"] for path in sample.paths], cells)
    survey = replace(masked, light=sample.survey.exposures)
    second = values_of(replace(sample, survey=survey).sky_of(DEFAULT, folder).levels)
    figures = {"first": score(sample, first), "second": score(sample, second)}
    print(sample.field.name, figures, flush=True)
    return figures


def wisps_left(field: Field, folder: Path, pool: Executor) -> dict[str, dict[str, float]]:
    """Rms of what is left in blocks of exposures with wisps, and of what was taken, in per cent of a pixel's rms.

    With ``none`` the wisps stay, ``control`` are the detectors without them.
    """
    truth = make_field(field, folder / field.name, pool)
    paths = [frame.path for frame in truth]
    kept = _made_once(without_flicker, paths, folder / f"{field.name}-flicker", pool)
    cleaned = _made_once(without_wisps, kept, folder / f"{field.name}-corrected", pool)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for frame, before, after in zip(truth, kept, cleaned, strict=True):
        has_wisps = frame.name.rsplit("_", 1)[1].upper() in WISP_DETECTORS
        for name, path in (("none", before), ("wisps", after)) if has_wisps else (("control", before),):
            left, usable = _what_is_left(frame, path)
            with datamodels.open(before) as first, datamodels.open(path) as last:
                taken = float(np.nanstd(first.data - last.data))
            blocks = block_reduce(np.where(usable, left, np.nan), BLOCK, np.nanmean)
            found[name].append((float(np.nanstd(blocks)), taken))
    figures = {
        name: dict(
            zip(("left_pct", "taken_pct"), (100 * np.mean(each, axis=0) / PIXEL_RMS_MJY_SR).tolist(), strict=True)
        )
        for name, each in found.items()
    }
    print(field.name, figures, flush=True)
    return figures


FIELDS = {
    "sparse": sparse_field,
    "crowded": crowded_field,
    "tilted": tilted_field,
    "nebula": nebula_field,
    "galaxy": galaxy_field,
    "deep-short": partial(deep_field, "short"),
    "deep-long": partial(deep_field, "long"),
}
PARTS = {
    "methods": tuple(FIELDS),
    "flicker": ("crowded",),
    "faults": ("sparse", "crowded", "tilted"),
    "null": ("sparse",),
    "second": ("crowded",),
    "ranking": (),
    "wisps": (),
}
"""Fields that each part measures on; the last two make their own."""
WISP_FIELDS = (crowded_field, bright_wisps_field, nebula_field, galaxy_field)


def main() -> None:
    """Run it all, or the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go; other parts in it are kept")
    parser.add_argument("--folder", type=Path, default=Path("benchmark-sky"), help="simulated exposures, kept")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--methods", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--surveys", type=int, default=RANDOM_SURVEYS)
    parser.add_argument("--draws", type=int, default=NULL_DRAWS)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    os.environ |= {"CRDS_PATH": str(folder / "crds"), "CRDS_CONTEXT": CRDS_CONTEXT}
    os.environ.pop("CRDS_SERVER_URL", None)
    if not (folder / "crds").exists():
        write_crds_cache(random_field(0).settings, folder / "crds")
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        _run(arguments, folder, Report(arguments.json), pool)


def _run(arguments: argparse.Namespace, folder: Path, report: "Report", pool: Executor) -> None:
    needed = {name for part in arguments.parts for name in PARTS[part]}
    samples = {
        name: prepare(make(), folder, pool, corrected=name == "crowded")
        for name, make in FIELDS.items()
        if name in needed
    }
    if "flicker" in arguments.parts:
        report.add("flicker", flicker_methods(samples["crowded"], folder))
    if "methods" in arguments.parts:
        for sample in samples.values():
            print(f"{sample.field.name}: {sample.empty.mean():.2f} of the cells are truly empty", flush=True)
        measured = pool.map(partial(measure_method, samples=samples, folder=folder), arguments.methods)
        for method, figures in zip(arguments.methods, measured, strict=True):
            report.add("methods", {method: figures})
    if "faults" in arguments.parts:
        found, faults = faults_found({name: samples[name] for name in PARTS["faults"]})
        report.add("verdict", {"faults_found": found, "faults": faults})
    if "null" in arguments.parts:
        report.add("verdict", {"null_passes": null_passes(samples["sparse"], arguments.draws)})
        report.add("verdict", {"null_draws": arguments.draws})
    if "second" in arguments.parts:
        report.add("second_pass", second_pass(samples["crowded"], folder, pool))
    if "wisps" in arguments.parts:
        report.add("wisps", {field.name: wisps_left(field, folder, pool) for field in (make() for make in WISP_FIELDS)})
    if "ranking" in arguments.parts:
        report.add("verdict", {"ranked_first": ranked_first(folder, arguments.surveys, pool)})
        report.add("verdict", {"surveys": arguments.surveys})


class Report:
    """The figures so far, written as they grow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        known = json.loads(path.read_text()) if path.exists() else {}
        self.figures: dict[str, Any] = {
            "default": DEFAULT,
            "methods": {},
            "flicker": {},
            "second_pass": {},
            "wisps": {},
            "verdict": {},
        } | known

    def add(self, part: str, figures: dict[str, Any]) -> None:
        self.figures[part] |= figures
        self.path.write_text(json.dumps(self.figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
