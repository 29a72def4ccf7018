"""Catalogues against a known truth: ours, jwst's source_catalog step and source-extractor.

    python benchmarks/catalog.py --json catalog.json --seeds 1 2 3 --uneven 11

Each seed is a simulated survey in four filters, from calibrated exposures through the whole flow with injection; the
other programs get its mosaics. Its tables stay in ``--folder``, so that a run can be continued and seeds added; the
rest is deleted. A figure is null where a program has none, or where it rests on too few sources; ``counts`` has their
numbers, for biases and widths by filter the least.
"""

import argparse
import json
import platform
import shutil
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from astropy.table import Table, vstack
from catalog_large import measure_large
from catalog_match import blank_apertures, match, true_sources
from catalog_programs import PROGRAMS, Found, measured, our_tables
from catalog_score import (
    Figures,
    Tables,
    colour_bias,
    corrected_galaxies,
    depth_error,
    injection_errors,
    put_pulls,
    score,
)
from catalog_survey import NAME, Kind, Psfs, Survey, make_survey, simulation_settings

DETECTORS = ("NRCB1", "NRCB2", "NRCB3", "NRCB4", "NRCBLONG")
OURS, STARS = "ours", "ours_stars"
"""Our catalogues with the known PSF and with that of the stars."""
NAMES = (
    *("completeness_10_pct", "completeness_5_pct", "purity_5_pct", "purity_5_unflagged_pct", "sharp_flag_right_pct"),
    *("purity_single_pct", "purity_single_unflagged_pct", "single_flag_right_pct", "single_flagged_pct"),
    *("shredded_pct", "star_pieces", "star_mag_bias"),
    *("galaxy_mag_bias", "galaxy_mag_bias_uncorrected", "colour_bias_known_psf", "colour_bias_star_psf"),
    *("pull_aperture", "pull_kron", "pull_total", "pull_uneven", "position_ratio", "depth_error_pct"),
    *("injection_completeness_error_pct", "injection_flux_error_mag", "sources_per_cpu_s", "peak_mb_8k"),
)
"""Of the figures, the same for every program."""
FLAGGED = (
    *("purity_5_unflagged_pct", "sharp_flag_right_pct", "purity_single_unflagged_pct"),
    *("single_flag_right_pct", "single_flagged_pct"),
)
"""Figures of flags, which only our catalogue has."""


def keep_seed(kind: Kind, seed: int, arguments: argparse.Namespace) -> Path:
    """Make, reduce and match the survey of a seed, if that was not done; return the folder of its tables."""
    name = f"{kind}_{arguments.subarray.lower()}_{seed}"
    kept, work = arguments.folder / name, arguments.folder / f"{name}_work"
    if (kept / "done.json").exists():
        return kept
    start = time.perf_counter()
    simulation = simulation_settings(seed, kind, arguments.subarray, tuple(arguments.detectors))
    survey = make_survey(work, simulation, arguments.processes, arguments.injected if kind == "even" else 0)
    kept.mkdir(parents=True, exist_ok=True)
    truth, origins = true_sources(survey), {}
    write(truth, kept / "truth.fits")
    origins[OURS] = keep_ours(survey, "known", truth, OURS, kept)
    if kind == "even":
        origins[STARS] = keep_ours(survey, "stars", truth, STARS, kept)
        keep_others(survey, truth, kept)
        keep_injection(survey, kept)
        write(blank_apertures(survey), kept / "blank.fits")
        keep_large(survey, arguments)
    wall = round(time.perf_counter() - start)
    (kept / "done.json").write_text(json.dumps({"wall_s": wall, "sources": len(truth), "psfs": origins}))
    shutil.rmtree(work)
    return kept


def keep_ours(survey: Survey, psfs: Psfs, truth: Table, name: str, kept: Path) -> dict[str, str]:
    """Match the flow's catalogue; return the origin of its PSFs."""
    catalog = Table.read(survey.products(psfs) / f"{NAME}_full_cat.ecsv")
    keep(survey, truth, our_tables(catalog), name, kept)
    return catalog.meta["psfs"]


def keep_others(survey: Survey, truth: Table, kept: Path) -> None:
    """Run the other programs on the mosaics, and match what they find."""
    for program in PROGRAMS:
        if program != OURS:
            found, _ = measured(program, survey.mosaics(), survey.psfs(), survey.folder / program)
            keep(survey, truth, found, program, kept)


def keep(survey: Survey, truth: Table, found: Found, name: str, kept: Path) -> None:
    """Match one program's catalogue and keep the tables."""
    for part, table in zip(("sources", "rows"), match(survey, truth, found), strict=True):
        write(table, kept / f"{name}_{part}.fits")


def keep_injection(survey: Survey, kept: Path) -> None:
    """Keep what became of injected sources."""
    write(Table.read(survey.products("known") / "injection" / f"{NAME}_injected.ecsv"), kept / "injected.fits")


def keep_large(survey: Survey, arguments: argparse.Namespace) -> None:
    """Measure speed and memory once, on mosaics made of those of the first seed."""
    file = arguments.folder / f"large_{arguments.large}.json"
    if arguments.large and not file.exists():
        costs = measure_large(survey.mosaics(), survey.psfs(), arguments.large, survey.folder / "large")
        file.write_text(json.dumps(costs))


def write(table: Table, path: Path) -> None:
    """Write a table without its metadata."""
    table = table.copy()
    table.meta.clear()
    table.write(path, overwrite=True)


def kept_table(path: Path) -> Table:
    """Read a table that was kept."""
    table = Table.read(path)
    table.convert_bytestring_to_unicode()
    return table


def read(kept: Sequence[Path], program: str) -> Tables:
    """Read the tables of one program over several seeds."""
    seeds = []
    for number, folder in enumerate(kept):
        truth = kept_table(folder / "truth.fits")
        truth["seed"] = number
        seeds.append((truth, *(kept_table(folder / f"{program}_{part}.fits") for part in ("sources", "rows"))))
    return Tables.of(seeds)


def our_figures(even: Sequence[Path], uneven: Sequence[Path]) -> Figures:
    """Return all figures of our catalogue."""
    tables = read(even, OURS)
    figures = score(tables)
    figures.put("colour_bias_known_psf", *colour_bias(tables))
    with_stars = [folder for folder in even if origins(folder) == {"stars"}]
    figures.put("colour_bias_star_psf", *(colour_bias(read(with_stars, STARS)) if with_stars else (None, 0)))
    injections = {number: kept_table(folder / "injected.fits") for number, folder in enumerate(even)}
    injected = vstack(list(injections.values()), metadata_conflicts="silent")
    for more in (corrected_galaxies(tables, injections), injection_errors(tables, injected)):
        figures.values |= more.values
        figures.counts |= more.counts
    blank = vstack([kept_table(folder / "blank.fits") for folder in even], metadata_conflicts="silent")
    figures.put("depth_error_pct", *depth_error(blank))
    if uneven:
        put_pulls(figures, "pull_uneven", read(uneven, OURS), "aperture")
    return figures


def origins(folder: Path) -> set[str]:
    """Origins of the PSFs where none was given: stars, or the computed one where there were too few."""
    return set(json.loads((folder / "done.json").read_text())["psfs"][STARS].values())


def their_figures(even: Sequence[Path], program: str) -> Figures:
    """Return the figures of another program."""
    tables = read(even, program)
    figures = score(tables)
    figures.put("colour_bias_known_psf", *colour_bias(tables))
    for name in FLAGGED:
        figures.put(name, None, 0)
    return figures


def result(even: Sequence[Path], uneven: Sequence[Path], large: Path) -> dict[str, Any]:
    """Put the figures of all programs under the names of the benchmark."""
    costs = json.loads(large.read_text()) if large.exists() else {}
    made: dict[str, Any] = {"counts": {}}
    for program in PROGRAMS:
        figures = our_figures(even, uneven) if program == OURS else their_figures(even, program)
        if program in costs:
            cost, (_, largest) = costs[program], sorted(map(int, costs[program]["peak_mb"]))
            figures.put("sources_per_cpu_s", round(cost["sources_per_cpu_s"], 2), round(cost["sources"]))
            if largest == 8192:
                figures.put("peak_mb_8k", cost["peak_mb"]["8192"], 1)
        made[program] = {name: plain(figures.values.get(name)) for name in NAMES}
        made["counts"][program] = {name: figures.counts.get(name, 0) for name in NAMES}
    seeds = {folder.name: json.loads((folder / "done.json").read_text()) for folder in (*even, *uneven)}
    versions = {name: version(name) for name in ("photutils", "jwst", "astropy")} | {
        "python": platform.python_version()
    }
    return made | {"large": costs, "seeds": seeds, "versions": versions}


def plain(value: Any) -> Any:
    """Round a figure; null if it was measured by no filter or is no number."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()} if any(value.values()) else None
    return None if value is None or value != value else round(value, 4)


def main() -> None:
    """Make what is missing, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("catalog.json"))
    parser.add_argument("--folder", type=Path, default=Path("catalog-work"), help="tables that stay; work of a seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--uneven", type=int, nargs="*", default=[11], help="seeds of uneven depth, 1/f noise and wisps"
    )
    parser.add_argument("--subarray", choices=["FULL", "SUB640"], default="FULL")
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS))
    parser.add_argument("--injected", type=int, default=600, help="sources that each seed injects")
    parser.add_argument("--large", type=int, default=8192, help="side of the mosaics for speed and memory; 0: none")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    even = [keep_seed("even", seed, arguments) for seed in arguments.seeds]
    uneven = [keep_seed("uneven", seed, arguments) for seed in arguments.uneven]
    made = result(even, uneven, arguments.folder / f"large_{arguments.large}.json")
    arguments.json.write_text(json.dumps(made, indent=1))
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
