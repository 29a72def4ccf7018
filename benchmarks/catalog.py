"""Catalogues against a known truth: ours and source-extractor's, on simulated fields in four filters.

    python benchmarks/catalog.py --json catalog.json --seeds 1 2 3 --uneven 11

source-extractor (Debian package) runs in dual-image mode on the same noise-equalised stack, its total magnitudes are
MAG_AUTO. S/N is by the empirical depth of the detection band (the flux error of our aperture of 0.3 arcsec, of a source
at that place), isolated means no brighter neighbour within 1 arcsec.
"""

import argparse
import json
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from catalog_fields import ELECTRONS_PER_NJY, FILTERS, NJY_PER_COUNT, NOISE_NJY, SCALE, Field, make_field
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cosmosaic.catalog.apertures import circles, sum_apertures
from cosmosaic.catalog.image import open_mosaics
from cosmosaic.catalog.measure import make_psf, measure_mosaics
from cosmosaic.catalog.noise import measure_depth
from cosmosaic.catalog.psf import read_psf
from cosmosaic.survey import CatalogSettings

MATCH_PIXELS = 5.0
ISOLATION_PIXELS = 1.0 / SCALE
APERTURE = "0p30"
INNER = f"aper_flux_{APERTURE}"


def ours(field: Field, psf_source: str) -> tuple[Table, float]:
    """Our catalogue with the true PSFs, or with those of the field's stars, and its CPU seconds."""
    start, settings = time.process_time(), CatalogSettings()
    mosaics = open_mosaics(field.mosaics)
    if psf_source == "known":
        psfs = {band: read_psf(path, SCALE) for band, path in field.psfs.items()}
    else:
        psfs = {}
        for band, path in field.mosaics.items():
            made = make_psf(path, None, settings.background_box_arcsec, 1.0, band, f"{band}_stars", field.folder).files[
                "psf"
            ]
            psfs[band] = read_psf(made, SCALE)
    table = measure_mosaics(mosaics, psfs, settings).table
    return table, time.process_time() - start


SEXTRACTOR = """
CATALOG_TYPE FITS_1.0
DETECT_MINAREA 5
THRESH_TYPE RELATIVE
DETECT_THRESH 1.5
ANALYSIS_THRESH 1.5
FILTER Y
DEBLEND_MINCONT 0.005
CLEAN Y
PHOT_AUTOPARAMS 2.5,3.5
BACK_SIZE 200
GAIN 0
VERBOSE_TYPE QUIET
WEIGHT_TYPE NONE,MAP_RMS
CHECKIMAGE_TYPE NONE
MEMORY_PIXSTACK 3000000
"""
PARAMETERS = [
    "X_IMAGE",
    "Y_IMAGE",
    "FLUX_AUTO",
    "FLUXERR_AUTO",
    "FLUX_APER",
    "FLUXERR_APER",
    "FLAGS",
    "ELONGATION",
    "FLUX_RADIUS",
]
KERNEL = "CONV NORM\n1 2 1\n2 4 2\n1 2 1\n"


def sextractor(field: Field) -> tuple[Table, float]:
    """source-extractor's catalogue and its CPU seconds."""
    folder = field.folder / "sextractor"
    folder.mkdir(exist_ok=True)
    (folder / "default.conv").write_text(KERNEL)
    (folder / "default.param").write_text("\n".join(PARAMETERS))
    stack = 0.0
    for band, path in field.mosaics.items():
        sci, err, wht = (fits.getdata(path, name) for name in ("SCI", "ERR", "WHT"))
        stack = stack + sci * np.sqrt(wht) / np.sqrt(len(field.mosaics))
        fits.writeto(folder / f"{band}_sci.fits", sci * np.float32(NJY_PER_COUNT), overwrite=True)
        fits.writeto(folder / f"{band}_rms.fits", err * np.float32(NJY_PER_COUNT), overwrite=True)
    fits.writeto(folder / "stack.fits", stack.astype(np.float32), overwrite=True)
    (folder / "default.sex").write_text(SEXTRACTOR)
    found, before = Table(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for band in FILTERS:
        command = ["source-extractor", f"stack.fits,{band}_sci.fits", "-c", "default.sex", "-CATALOG_NAME", "out.fits"]
        command += ["-PARAMETERS_NAME", "default.param", "-FILTER_NAME", "default.conv"]
        command += ["-WEIGHT_IMAGE", f"NONE,{band}_rms.fits", "-PHOT_APERTURES", str(0.3 / SCALE)]
        subprocess.run(command, cwd=folder, check=True)
        rows = Table.read(folder / "out.fits")
        found["x"], found["y"] = rows["X_IMAGE"] - 1.0, rows["Y_IMAGE"] - 1.0
        prefix = band.lower()
        found[f"{prefix}_flux"], found[f"{prefix}_flux_err"] = rows["FLUX_AUTO"], rows["FLUXERR_AUTO"]
        found[f"{prefix}_kron_flux"], found[f"{prefix}_kron_flux_err"] = rows["FLUX_AUTO"], rows["FLUXERR_AUTO"]
        found[f"{prefix}_{INNER}"] = rows["FLUX_APER"]
        found[f"{prefix}_aper_flux_err_{APERTURE}"] = rows["FLUXERR_APER"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found, cpu


def matched(field: Field, table: Table) -> tuple[Table, NDArray[np.bool_]]:
    """The truth with the catalogue's row of each source (-1: none), its S/N and isolation; and which rows are true."""
    truth = field.truth.copy()
    places = np.stack([truth["x"], truth["y"]], axis=1)
    rows = np.stack([np.asarray(table["x"]), np.asarray(table["y"])], axis=1)
    flux = np.mean([truth[f"flux_{band}"] for band in FILTERS], axis=0)
    tree, rows_tree = cKDTree(places), cKDTree(rows)
    truth["row"] = -1
    taken: set[int] = set()
    for source in np.argsort(flux)[::-1]:
        near = rows_tree.query_ball_point(places[source], MATCH_PIXELS)
        free = [row for row in near if row not in taken]
        if free:
            best = min(free, key=lambda row: np.hypot(*(rows[row] - places[source])))
            truth["row"][source] = best
            taken.add(best)
    truth["isolated"] = [
        all(flux[other] <= flux[source] for other in tree.query_ball_point(places[source], ISOLATION_PIXELS))
        for source in range(len(truth))
    ]
    depth = 4.0
    if field.uneven:
        depth = np.array([2, 4, 8, 3])[np.minimum(np.asarray(truth["x"]).astype(int) // (2000 // 4), 3)]
    # In the detection band: the mean of the filters' S/N in 0.15 arcsec radius, times the root of their number.
    noise = NOISE_NJY * np.sqrt(np.pi * (0.15 / SCALE) ** 2) * np.sqrt(4.0 / depth)
    truth["snr"] = np.sum([truth[f"flux_{band}"] / noise for band in FILTERS], axis=0) / np.sqrt(len(FILTERS))
    for band in FILTERS:
        spread = np.sqrt(noise**2 + truth[f"flux_{band}"] / ELECTRONS_PER_NJY * 4.0 / depth)
        truth[f"snr_{band}"] = truth[f"flux_{band}"] / spread
    near_truth = tree.query(rows)[0] < MATCH_PIXELS
    # A row beside a galaxy or a bright star's spike is no false detection of noise: counted as pieces.
    return truth, near_truth


def mad(values: NDArray[np.floating]) -> float:
    """Robust standard deviation."""
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) > 3 else float("nan")


def pairs(truth: Table, table: Table, column: str) -> NDArray[np.float64]:
    """The catalogue's values of the true sources; NaN where they are not found."""
    values = np.ma.filled(np.ma.asarray(table[column]).astype(float), np.nan)
    return np.where(truth["row"] >= 0, values[np.maximum(truth["row"], 0)], np.nan)


def magnitude_bias(ratio: NDArray[np.floating]) -> float:
    """Median of measured minus true magnitude."""
    return float(-2.5 * np.log10(np.nanmedian(ratio)))


def score(truth: Table, table: Table, near_truth: NDArray[np.bool_], has_psf: bool) -> dict[str, Any]:
    """The figures of one catalogue."""
    star, isolated, found = truth["kind"] == "star", np.asarray(truth["isolated"]), truth["row"] >= 0
    result: dict[str, Any] = {}
    for name, (low, high) in {"10": (8, 12), "5": (4, 6)}.items():
        chosen = star & isolated & (truth["snr"] > low) & (truth["snr"] < high)
        result[f"completeness_{name}_pct"] = 100.0 * float(np.mean(found[chosen]))
        result[f"completeness_{name}_number"] = int(chosen.sum())
    ratios = [
        np.ma.filled(table[f"{band.lower()}_{INNER}"] / table[f"{band.lower()}_aper_flux_err_{APERTURE}"], 0.0)
        for band in FILTERS
    ]
    snr = np.sum(ratios, axis=0) / np.sqrt(len(FILTERS))
    result["purity_5_pct"] = 100.0 * float(np.mean(near_truth[snr > 5]))
    rows = np.stack([np.asarray(table["x"]), np.asarray(table["y"])], axis=1)
    places = np.stack([truth["x"], truth["y"]], axis=1)
    unmatched = np.setdiff1d(np.arange(len(table)), truth["row"])
    galaxies = np.flatnonzero(~star & (truth["snr"] > 50))
    radius = 1.5 * np.asarray(truth["half_light_radius"])[galaxies] / SCALE
    pieces = [np.sum(np.hypot(*(rows[unmatched] - places[g]).T) < r) for g, r in zip(galaxies, radius, strict=True)]
    result["shredded_pct"] = 100.0 * float(np.mean(np.array(pieces) > 0))
    bright = np.flatnonzero(star & (truth["flux_F444W"] > 57500))
    around = [np.sum(np.hypot(*(rows[unmatched] - places[s]).T) < 2.0 / SCALE) for s in bright]
    result["star_pieces"] = float(np.mean(around)) if len(around) else float("nan")
    per_band: dict[str, dict[str, float]] = {key: {} for key in (
        "star_mag_bias", "star_aper_bias", "galaxy_mag_bias_n1", "galaxy_mag_bias_n4", "pull_aperture", "pull_kron",
        "pull_flux")}  # fmt: skip
    for band in FILTERS:
        prefix, flux = band.lower(), np.asarray(truth[f"flux_{band}"])
        total = pairs(truth, table, f"{prefix}_flux") / flux
        snr_band = np.asarray(truth[f"snr_{band}"])
        sure = star & isolated & (snr_band > 100)
        per_band["star_mag_bias"][band] = magnitude_bias(total[sure])
        for index in (1, 4):
            chosen = ~star & isolated & (snr_band > 20) & (truth["sersic_n"] == index)
            per_band[f"galaxy_mag_bias_n{index}"][band] = magnitude_bias(total[chosen])
        middle = star & isolated & (snr_band > 5) & (snr_band < 50)
        for name, column in (("pull_kron", "kron_flux"), ("pull_flux", "flux")):
            pulls = (pairs(truth, table, f"{prefix}_{column}") - flux) / pairs(truth, table, f"{prefix}_{column}_err")
            per_band[name][band] = mad(pulls[middle])
        if has_psf:
            aperture = pairs(truth, table, f"{prefix}_aper_flux_{APERTURE}")
            per_band["star_aper_bias"][band] = magnitude_bias((aperture / flux)[sure])
            pulls = (aperture - flux) / pairs(truth, table, f"{prefix}_aper_flux_err_{APERTURE}")
            per_band["pull_aperture"][band] = mad(pulls[middle])
    result |= per_band
    blue, red = (pairs(truth, table, f"{b}_flux") / truth[f"flux_{b.upper()}"] for b in ("f115w", "f444w"))
    both = isolated & (truth["snr_F115W"] > 50) & (truth["snr_F444W"] > 50)
    result["colour_bias_stars"] = magnitude_bias((blue / red)[both & star])
    result["colour_bias_galaxies"] = magnitude_bias((blue / red)[both & ~star])
    if "ra_err" in table.colnames:
        sure = star & isolated & (truth["snr"] > 10) & (truth["snr"] < 200)
        off = (pairs(truth, table, "ra") - truth["ra"]) * np.cos(np.radians(truth["dec"])) * 3600
        result["position_ratio"] = mad((off / pairs(truth, table, "ra_err"))[sure])
    result["sources"] = len(table)
    return result


def pooled(fields: list[Field], measure: Any, has_psf: bool) -> dict[str, Any]:
    """The figures of a catalogue over several fields."""
    truths, tables, near, cpu, count = [], [], [], 0.0, 0
    for number, field in enumerate(fields):
        table, seconds = measure(field)
        table.meta.clear()
        truth, near_truth = matched(field, table)
        truth["row"] = np.where(truth["row"] >= 0, truth["row"] + count, -1)
        for one in (truth, table):
            one["x"] = np.asarray(one["x"]) + 1e6 * number
        count += len(table)
        cpu += seconds
        truths.append(truth)
        tables.append(table)
        near.append(near_truth)
    together = vstack(truths, metadata_conflicts="silent"), vstack(tables, metadata_conflicts="silent")
    figures = score(*together, np.concatenate(near), has_psf)
    return figures | {"sources_per_cpu_s": count / cpu, "cpu_s": cpu}


KEPT = (
    *("completeness_10_pct", "completeness_5_pct", "purity_5_pct", "shredded_pct", "star_pieces", "pull_aperture"),
    *("pull_kron", "position_ratio", "sources_per_cpu_s"),
)
"""Figures that are written as they are."""


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures by the names of the benchmark; biases absolute and the worst of the filters."""

    def worst(name: str) -> float:
        return max(abs(value) for value in figures[name].values())

    result = {name: figures[name] for name in KEPT if figures.get(name)}
    result["star_mag_bias"] = worst("star_mag_bias")
    result["galaxy_mag_bias_uncorrected"] = {f"n = {index}": worst(f"galaxy_mag_bias_n{index}") for index in (1, 4)}
    result["colour_bias"] = max(abs(figures["colour_bias_stars"]), abs(figures["colour_bias_galaxies"]))
    return result


def depth_error(field: Field, band: str) -> float:
    """How far the depth of a mosaic is from the scatter of apertures on its noise alone, in per cent."""
    path = field.mosaics[band]
    depth = measure_depth(path, CatalogSettings().background_box_arcsec, band, f"{band}_depth", field.folder).facts
    noise = fits.getdata(path, "NOISE").astype(np.float32) * np.float32(NJY_PER_COUNT)
    (side, _), random = noise.shape, np.random.default_rng(5)
    places = random.uniform(20, side - 20, (4000, 2))
    apertures = circles(places[:, 0], places[:, 1], 0.15 / SCALE)
    truth = mad(sum_apertures(noise, noise, np.ones(noise.shape, bool), apertures).flux)
    told = 10 ** (-0.4 * (depth["depth_5sigma_ab"] - 31.4)) / 5.0
    return float(100.0 * abs(told / truth - 1.0))


def main() -> None:
    """Make the fields, measure them, write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, default=Path("catalog.json"))
    parser.add_argument("--work", type=Path, default=Path("catalog-work"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--uneven", type=int, nargs="*", default=[11])
    arguments = parser.parse_args()
    even = [make_field(arguments.work, seed) for seed in arguments.seeds]
    uneven = [make_field(arguments.work, seed, uneven=True) for seed in arguments.uneven]
    known = pooled(even, lambda field: ours(field, "known"), True)
    stars = pooled(even, lambda field: ours(field, "stars"), True)
    others = pooled(even, sextractor, False)
    result = {"ours": summary(known), "sextractor": summary(others), "details": {"ours": known, "star_psf": stars}}
    result["ours"]["colour_bias_known_psf"] = result["ours"].pop("colour_bias")
    result["ours"]["colour_bias_star_psf"] = summary(stars)["colour_bias"]
    result["ours"]["star_mag_bias_star_psf"] = summary(stars)["star_mag_bias"]
    result["ours"]["depth_error_pct"] = max(depth_error(field, band) for field in even for band in FILTERS)
    if uneven:
        result["ours"]["pull_uneven"] = pooled(uneven, lambda field: ours(field, "known"), True)["pull_aperture"]
    arguments.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
