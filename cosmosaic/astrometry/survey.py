"""The network of a survey, from the star tables of its exposures to the correction of each."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from cosmosaic.astrometry.flux import FluxScale, corrected, detector_fluxes, flux_corrections
from cosmosaic.astrometry.flux_solution import FLUX_SUFFIX, Detector, FluxRequest, FluxSolution, factor_text, flux_table
from cosmosaic.astrometry.network import Detections, Network, Seen, solve_network, stars_of, tie_to_catalogue
from cosmosaic.astrometry.parts import judge_parts, verdict_table
from cosmosaic.astrometry.pictures import draw_maps, draw_plots
from cosmosaic.astrometry.reference import Reference, read_reference
from cosmosaic.astrometry.solution import (
    CORRECTION_SUFFIX,
    JUDGED,
    NO_CORRECTION,
    AlignedExposure,
    Alignment,
    AlignRequest,
    Correction,
    alignment_table,
    correction,
)
from cosmosaic.astrometry.verdict import Judged, held_out_verdict, judge_fluxes, null_verdict
from cosmosaic.geometry.attitude import attitude_matrix
from cosmosaic.geometry.sphere import directions, plane_to_sky, sky_to_plane, unit_vectors
from cosmosaic.nircam import detector_pixel_arcsec
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made

Floats = NDArray[np.floating]

CENTROID_FLOOR_PIXELS = 0.01
"""A Gaussian is not the PSF: its centre is off by this, whatever the noise."""
PROBE_ARCSEC = 30.0
"""Distance of the points by which a solution becomes a linear map."""
FEWEST_REFERENCE_STARS = 3

log = logging.getLogger(__name__)


def solve_survey(
    stars: Mapping[str, Path],
    catalogue: Path | None,
    request: AlignRequest,
    flux: FluxRequest,
    tiles: tuple[MosaicGrid, ...],
    stem: str,
    folder: Path,
) -> Made:
    """Find the corrections of all exposures of a survey in one solution.

    Exposures with known corrections keep them, and are the reference for the others. An exposure with too few stars
    gets the corrections of its visit and detector, and is reported by name.

    Parameters
    ----------
    stars
        Star table of each exposure; exposures without one keep their header's WCS.
    catalogue
        The user's reference catalogue.
    request
        The settings, and the known corrections.
    flux
        The exposures, and the flux scales of an earlier run that stay.
    tiles
        Parts of the sky that are judged one by one.
    stem
        Name of the table without extension.
    folder
        Gets the table of all corrections (ECSV), ``<exposure>_correction.json`` and ``<exposure>_flux.json`` of each
        exposure, and ``_astrometry.ecsv``, the verdict by held-out stars, with ``_astromaps.png`` and
        ``_astroplots.png``, and ``_fluxscale.ecsv``.
    """
    kept = {one.name: one for one in request.kept}
    tables = {name: QTable.read(path, format="ascii.ecsv") for name, path in stars.items()}
    seen = [seen_by(table, name in kept) for name, table in tables.items()]
    detections = _corrected(detections_of(list(tables.values())), seen, kept)
    reference = _reference(tables, catalogue)
    network = solve_network(seen, detections) if seen else None
    errors = dict(zip((one.name for one in seen), np.round(network.errors, 3).tolist(), strict=True)) if network else {}
    found = _corrections(network, detections, reference, catalogue) if network and request.new else {}
    scales = _flux_solution(flux, network, detections)
    judged = _judged(seen, detections, reference, scales)
    exposures = [kept.get(name) or _aligned(name, digest, found, errors) for name, digest in request.exposures.items()]
    alignment = Alignment(asked=request.asked, missing=request.missing, exposures=tuple(exposures))
    path = folder / f"{stem}.ecsv"
    alignment_table(alignment).write(path, format="ascii.ecsv")
    corrections = {}
    for one in exposures:
        corrections[one.name] = folder / f"{one.name}{CORRECTION_SUFFIX}"
        corrections[one.name].write_text(one.correction.model_dump_json())
    survey = stem.removesuffix("_align")
    fluxes = folder / f"{survey}_fluxscale.ecsv"
    flux_table(scales).write(fluxes, format="ascii.ecsv")
    known = {one.name: one.rms for one in judged["after"].metrics if np.isfinite(one.rms)}
    facts: dict[str, float | None] = {"unaligned": float(sum(not one.aligned for one in exposures))}
    facts |= {f"{kind}_mas": known.get(kind) for kind in JUDGED}
    facts |= {"scale_ppm": known.get("scale"), "matches_pct": known.get("matches"), "flux_mmag": known.get("flux")}
    return Made(
        table=path,
        corrections=corrections,
        fluxes=fluxes,
        factors=_write_factors(scales, flux.detectors, folder),
        facts=facts,
        **_write_verdict(judged, seen, reference, tiles, folder / survey),
    )


def seen_by(table: QTable, is_kept: bool = False) -> Seen:
    """Describe the exposure of a star table."""
    meta = table.meta
    return Seen(
        name=meta["exposure"],
        # Kept exposures are fixed, so exposures added to their pointing form a pointing of their own.
        pointing=meta["pointing"] + (" kept" if is_kept else ""),
        visit=meta["visit"],
        detector=meta["detector"],
        band=meta["band"],
        attitude=attitude_matrix(*(meta[name] for name in ("v2_ref", "v3_ref", "ra_ref", "dec_ref", "roll_ref"))),
        point=(meta["v2_ref"], meta["v3_ref"]),
        is_held=is_kept,
        aberration=1 - meta["va_scale"],
    )


def detections_of(tables: list[QTable]) -> Detections:
    """Collect the stars of exposures; exposures are numbered in their order."""
    parts = [(np.zeros(0, dtype=int), np.zeros((0, 3)), np.zeros(0), np.zeros(0))]
    for number, table in enumerate(tables):
        scale = 1000 * detector_pixel_arcsec(table.meta["band"])
        errors = np.sqrt(table["x_err"].value * table["y_err"].value)
        sky = np.stack([table["ra"].value, table["dec"].value], axis=1)
        known = np.isfinite(sky).all(axis=1) & np.isfinite(errors)
        if not known.all():
            log.warning(
                f"{table.meta['exposure']}: {np.sum(~known)} of {len(table)} stars have no position or no error, and"
                " are left out; check the WCS of the exposure"
            )
        values = (
            np.full(len(table), number),
            unit_vectors(sky),
            scale * np.hypot(errors, CENTROID_FLOOR_PIXELS),
            np.asarray(table["flux"].value),
        )
        parts.append(tuple(value[known] for value in values))
    return Detections(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def corrections_of(network: Network) -> list[Correction]:
    """Return the correction of each exposure as a linear map about its reference point.

    The map is that of the tangent plane at the reference point, which a rotation and shift are exactly.
    """
    exposures = network.frame.exposures
    places = np.array([(0.0, 0.0), (PROBE_ARCSEC, 0.0), (0.0, PROBE_ARCSEC)])
    tangents = [_tangent(one) for one in exposures]
    probes = np.concatenate([plane_to_sky(tangent, places) for tangent in tangents])
    number = np.repeat(np.arange(len(exposures)), len(places))
    nothing = np.zeros(len(number))
    moved = network.displaced(Detections(number, unit_vectors(probes), nothing, nothing))
    found = []
    for tangent, vectors in zip(tangents, moved.vectors.reshape(-1, 3, 3), strict=True):
        plane = sky_to_plane(tangent, directions(vectors))
        matrix = np.stack([plane[1] - plane[0], plane[2] - plane[0]], axis=1) / PROBE_ARCSEC
        found.append(correction(matrix, plane[0]))
    return found


def _reference(tables: Mapping[str, QTable], catalogue: Path | None) -> Reference | None:
    """The catalogue at the epoch of the exposures."""
    if catalogue is None or not tables:
        return None
    epochs = np.array([table.meta["epoch"] for table in tables.values()], dtype=float)
    known = epochs[np.isfinite(epochs)]
    if not len(known):
        log.warning(f"no exposure's header has a time, so the stars of {catalogue.name} stay at its epoch")
    return read_reference(catalogue, float(np.median(known)) if len(known) else None)


def _flux_solution(flux: FluxRequest, network: Network | None, detections: Detections) -> FluxSolution:
    """Flux scales by the stars, of which those of an earlier run stay."""
    measured: list[FluxScale] = []
    if network is not None:
        matched, stars = stars_of(network, detections)
        measured = detector_fluxes(network.frame.exposures, detections.select(matched), stars)
    return FluxSolution(
        scales=flux_corrections(measured, flux.kept),
        exposures=flux.exposures,
        missing=flux.missing,
        is_applied=flux.is_applied,
    )


def _judged(
    seen: list[Seen], detections: Detections, reference: Reference | None, scales: FluxSolution
) -> dict[str, Judged]:
    """The verdicts on positions and fluxes, before and after."""
    before, after = held_out_verdict(seen, detections, reference)
    left = corrected(scales.scales) if scales.is_applied else scales.scales
    return {
        "before": before._replace(metrics=(*before.metrics, judge_fluxes(scales.scales))),
        "after": after._replace(metrics=(*after.metrics, judge_fluxes(left))),
    }


def _write_verdict(
    judged: dict[str, Judged],
    seen: list[Seen],
    reference: Reference | None,
    tiles: tuple[MosaicGrid, ...],
    stem: Path,
) -> dict[str, Path]:
    """Write the verdict as a table and two pictures, and log what is wrong."""
    verdict, maps, plots = (
        stem.with_name(stem.name + suffix) for suffix in ("_astrometry.ecsv", "_astromaps.png", "_astroplots.png")
    )
    metrics = {when: each.metrics for when, each in judged.items()} | {"noise": null_verdict(seen, judged["after"])}
    parts = {when: judge_parts(seen, each, reference, tiles) for when, each in judged.items()}
    verdict_table(metrics, parts).write(verdict, format="ascii.ecsv")
    draw_maps(seen, judged, maps)
    draw_plots(seen, judged, plots)
    for metric in judged["after"].metrics:
        if metric.state in ("warn", "fail"):
            log.warning(f"astrometry: {metric.message}")
    return {"verdict": verdict, "maps": maps, "plots": plots}


def _write_factors(solved: FluxSolution, detectors: Mapping[str, Detector], folder: Path) -> dict[str, Path]:
    """Write the factor of each exposure; 1 where that of its detector is not known."""
    factors = {(one.band, one.detector): one.factor for one in solved.scales}
    written = {}
    for name, detector in detectors.items():
        written[name] = folder / f"{name}{FLUX_SUFFIX}"
        written[name].write_text(factor_text(factors.get(detector, 1.0)))
    return written


def _corrections(
    network: Network, detections: Detections, reference: Reference | None, catalogue: Path | None
) -> dict[str, tuple[Correction, bool]]:
    """The correction of each exposure with a star table, and whether stars gave it."""
    if reference is not None and catalogue is not None:
        network = _tied(network, detections, reference, catalogue)
    maps = corrections_of(network)
    seen = network.frame.exposures
    return {one.name: (found, bool(by)) for one, found, by in zip(seen, maps, network.aligned, strict=True)}


def _tied(network: Network, detections: Detections, reference: Reference, catalogue: Path) -> Network:
    tied, counts = tie_to_catalogue(network, detections, reference.vectors, reference.errors)
    for group, count in counts.items():
        if count < FEWEST_REFERENCE_STARS:
            members = [one.name for one, of in zip(network.frame.exposures, network.groups, strict=True) if of == group]
            log.warning(
                f"{catalogue.name} has {count} stars of the {len(members)} exposures with {members[0]}, so their"
                " absolute position is that of their headers; give a catalogue that covers them"
            )
    return tied


def _corrected(detections: Detections, exposures: list[Seen], kept: Mapping[str, AlignedExposure]) -> Detections:
    """Move the stars of exposures with known corrections."""
    vectors = detections.vectors.copy()
    ends = np.searchsorted(detections.exposure, np.arange(len(exposures) + 1))
    for one, start, end in zip(exposures, ends[:-1], ends[1:], strict=True):
        if one.name not in kept:
            continue
        own = slice(start, end)
        tangent = _tangent(one)
        plane = sky_to_plane(tangent, directions(vectors[own]))
        known = kept[one.name].correction
        vectors[own] = unit_vectors(plane_to_sky(tangent, plane @ np.transpose(known.matrix) + known.shift))
    return Detections(detections.exposure, vectors, detections.errors, detections.fluxes)


def _aligned(
    name: str, sha256: str, found: Mapping[str, tuple[Correction, bool]], errors: Mapping[str, float]
) -> AlignedExposure:
    known, by_stars = found.get(name, (NO_CORRECTION, False))
    if not by_stars:
        log.warning(
            f"{name}: too few stars in common with other exposures, so its WCS is that of the header with the"
            " corrections of its visit and detector; lower align.snr_threshold"
        )
    error = errors.get(name) if by_stars else None
    return AlignedExposure(name=name, sha256=sha256, kept=False, correction=known, aligned=by_stars, error_mas=error)


def _tangent(one: Seen) -> tuple[float, float]:
    """RA and Dec in degrees of an exposure's reference point."""
    ((ra, dec),) = directions(one.attitude @ unit_vectors([np.array(one.point) / 3600])[0])
    return float(ra), float(dec)
