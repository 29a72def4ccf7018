"""The catalogue of one window over all filters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.table import Column, Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from photutils.segmentation import SegmentationImage
from scipy import ndimage, stats
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.catalog.bright import starlight
from cosmosaic.catalog.columns import Columns, aperture_suffixes, as_table, column_specs
from cosmosaic.catalog.detection import BandImage, Detection, PreparedBands, detect, detection_filters, prepare
from cosmosaic.catalog.files import write_catalog
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.catalog.image import MosaicImage, MosaicSet, open_mosaics, pixel_scale_arcsec
from cosmosaic.catalog.noise import DEPTH_DIAMETER_ARCSEC
from cosmosaic.catalog.photometry import BandSums, Sources, find_shapes, measure_band, total_columns
from cosmosaic.catalog.psf import Psf, StarCandidates, find_candidates, model_psf, read_psf, star_psf, write_psf
from cosmosaic.catalog.rejected import rejected_labels
from cosmosaic.catalog.sections import Section, sections_of
from cosmosaic.catalog.segments import DiskPlane
from cosmosaic.catalog.sharp import are_sharp
from cosmosaic.processes.memory import return_freed_memory
from cosmosaic.steps.result import Made
from cosmosaic.survey import CatalogSettings

SOFTWARE = ("cosmosaic", "photutils", "astropy")
SHALLOW_FRACTION = 0.5
"""Below this fraction of a filter's median weight a source is flagged as shallow."""
SEEN_SIGMA = 3.0
"""A filter whose flux is more significant than this shows a source."""
BLENDED_FRACTION = 0.1
"""Fraction of the Kron aperture on neighbours from which a source is flagged as blended."""
BRIGHT_FRACTION = 0.1
"""Fraction of its flux from which the light of brighter stars flags a source."""
CONCENTRATION_SCATTER = 0.03
"""Scatter of the concentration of bright stars."""


@dataclass(frozen=True)
class Catalog:
    """The sources of a window."""

    table: Table
    """A row per source; the columns are those of `cosmosaic.catalog.columns.column_specs`."""
    segments: NDArray[np.int32]
    """Numbers of the sources, 0 on the sky, shape ``(ny, nx)``."""
    wcs: WCS


def measure_window(images: Mapping[str, MosaicImage], psfs: Mapping[str, Psf], settings: CatalogSettings) -> Catalog:
    """Detect the sources of a window in the sum of its filters, and measure them in each.

    Parameters
    ----------
    images
        Mosaics on one grid by filter.
    psfs
        Their PSFs.
    settings
        Thresholds and apertures.

    Raises
    ------
    ValueError
        The settings name filters that there are not.
    """
    bands = PreparedBands(images, settings.background_box_arcsec)
    detection = detect(bands, psfs, settings)
    wcs = detection.wcs
    specs = column_specs(images, settings)
    meta = {
        "bands": list(images),
        "detection_bands": detection_filters(images, settings),
        "aperture_diameters_arcsec": {name: value for value, name in aperture_suffixes(settings).items()},
        "psfs": {name: psfs[name].origin for name in images},
        "settings": settings.model_dump(mode="json"),
        "software": {name: version(name) for name in SOFTWARE},
    }
    if detection.segments is None:
        table = as_table(specs, {name: np.zeros(0, dtype=spec.dtype) for name, spec in specs.items()})
        table.meta = meta
        return Catalog(table, np.zeros(detection.valid.shape, np.int32), wcs)
    sources, outlines = find_shapes(detection, detection.segments), _flags_of_outlines(detection, detection.segments)
    del detection
    target = _target(psfs, settings)
    meta["matched_to"] = target
    measured, marks = dict[str, BandSums](), dict[str, _Marks]()
    for name in images:
        band = bands[name]
        measured[name] = measure_band(band, sources, psfs[name], psfs[target], settings)
        marks[name] = _marks(band, sources, psfs[name])
        del band  # before the next is read
    meta["noise_power"] = {name: round(sums.noise.power, 4) for name, sums in measured.items()}
    common, by_band = total_columns(measured, sources, settings, pixel_scale_arcsec(wcs))
    columns = sources.columns | common | _classes(measured, settings)
    columns["n_filters"] = np.sum([sums.covered for sums in measured.values()], axis=0)
    flags = outlines | _flags(measured, marks, by_band, sources, (outlines & CatalogFlag.NO_DATA) > 0, psfs)
    # A star whose core is saturated, or without data for that reason, is too wide for one.
    is_star = (columns["star_probability"] > 0.5) | ((flags & (CatalogFlag.NO_DATA | CatalogFlag.SATURATED)) > 0)
    near = _near_bright(measured, by_band, sources, psfs, is_star, settings)
    columns["flags"] = flags + CatalogFlag.NEAR_BRIGHT.value * near.astype(np.int32)
    for name, values in by_band.items():
        columns |= {f"{name.lower()}_{column}": value for column, value in values.items()}
    table = as_table(specs, columns)
    table.meta = meta
    return Catalog(table, sources.segments.astype(np.int32, copy=False), wcs)


@dataclass(frozen=True)
class WindowCatalog:
    """The sources of a window of any size."""

    table: Table
    """As that of `Catalog`."""
    segments: DiskPlane
    wcs: WCS


def measure_mosaics(
    mosaics: MosaicSet, psfs: Mapping[str, Psf], settings: CatalogSettings, folder: Path
) -> WindowCatalog:
    """Measure the sources of a window of any size, section by section.

    Sections overlap, and each source is taken from the one whose own part holds its centre: memory does not grow with
    the window, but for the table.

    Parameters
    ----------
    mosaics, psfs
        Mosaics and their PSFs by filter.
    settings
        Thresholds and apertures.
    folder
        Has room for the segmentation map.

    Raises
    ------
    ValueError
        The settings name filters that there are not, or no mosaic has data.
    """
    segments, tables = DiskPlane(mosaics.shape, np.int32, folder), list[Table]()
    sections = list(sections_of(mosaics.shape, round(settings.background_box_arcsec / mosaics.scale_arcsec)))
    for section in sections:
        measured = measure_window(mosaics.read(section.padded), psfs, settings)
        tables.append(_added(measured, section, segments, sum(map(len, tables))))
        del measured
        # What one section leaves between its planes adds up: a fifth of the memory after 36 of them.
        return_freed_memory()
    if not any(map(len, tables)) and not any(_has_data(mosaics.read(section.own)) for section in sections):
        names = ", ".join(path.name for path in mosaics.paths.values())
        raise ValueError(f"{names}: no pixel has finite SCI, positive ERR and positive WHT; the mosaics are empty")
    specs = column_specs(mosaics.paths, settings)
    table = as_table(specs, {name: _joined([one[name] for one in tables]) for name in specs})
    table.meta = next((one.meta for one in tables if len(one)), tables[0].meta)
    return WindowCatalog(table, segments, mosaics.wcs)


def _has_data(images: Mapping[str, MosaicImage]) -> bool:
    return any(image.valid.any() for image in images.values())


def _joined(columns: Sequence[Column]) -> NDArray:
    """Put columns one after the other; NaN where they are masked."""
    filled = [np.ma.filled(column, np.nan) if column.dtype.kind == "f" else column for column in columns]
    return np.concatenate([np.asarray(column) for column in filled])


def _added(measured: Catalog, section: Section, segments: DiskPlane, first: int) -> Table:
    """Put a section's own sources into the window's segmentation map, and return their rows."""
    table, origin = measured.table, [axis.start for axis in section.padded]
    table["x"], table["y"] = table["x"] + origin[1], table["y"] + origin[0]
    height, width = segments.shape
    places = np.clip(table["y"], 0, height - 1), np.clip(table["x"], 0, width - 1)
    own = section.holds(*map(np.asarray, places))
    table, numbers = table[own], np.zeros(len(table) + 1, np.int32)
    numbers[np.asarray(table["id"])] = first + 1 + np.arange(len(table))
    table["id"] = numbers[np.asarray(table["id"])]
    part = segments[section.padded]
    part[part == 0] = numbers[measured.segments[part == 0]]
    segments[section.padded] = part
    return table


def _target(psfs: Mapping[str, Psf], settings: CatalogSettings) -> str:
    """The filter that the others are matched to."""
    if settings.match_to is None:
        return max(psfs, key=lambda band: psfs[band].fwhm_arcsec)
    if settings.match_to not in psfs:
        raise ValueError(f"catalog.match_to is {settings.match_to}, but the mosaics are in {', '.join(psfs)}")
    return settings.match_to


def _classes(measured: Mapping[str, BandSums], settings: CatalogSettings) -> Columns:
    """Concentration of the light compared with that of a star, and the probability of a star.

    Stars scatter about 1 by their noise, galaxies are spread evenly below (the prior).
    """
    suffixes = aperture_suffixes(settings)
    small = suffixes[min(suffixes)]
    large = suffixes[min((diameter for diameter in suffixes if diameter >= 0.5), default=max(suffixes))]
    inner = outer = inner_variance = outer_variance = np.zeros(1)
    for sums in measured.values():
        weight = np.where(sums.covered, sums.weight, 0.0)
        inner = inner + np.nan_to_num(weight * sums.columns[f"aper_flux_{small}"])
        outer = outer + np.nan_to_num(weight * sums.columns[f"aper_flux_{large}"])
        inner_variance = inner_variance + np.nan_to_num(weight * sums.columns[f"aper_flux_err_{small}"]) ** 2
        outer_variance = outer_variance + np.nan_to_num(weight * sums.columns[f"aper_flux_err_{large}"]) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        concentration = np.where(outer > 0, inner / outer, np.nan)
        scatter = np.sqrt((inner_variance + concentration**2 * outer_variance) / outer**2 + CONCENTRATION_SCATTER**2)
        star = stats.norm.pdf(concentration, 1.0, scatter)
    return {"concentration": concentration, "star_probability": star / (star + 1.0)}


@dataclass(frozen=True)
class _Marks:
    """What the planes of one filter say of the sources."""

    thin: NDArray[np.bool_]
    """Little weight at the centre, shape ``(n,)``."""
    rejected: NDArray[np.integer]
    saturated: NDArray[np.integer]
    """Labels."""
    sharp: NDArray[np.bool_]
    """Sharper than a point source, shape ``(n,)``."""


def _marks(band: BandImage, sources: Sources, psf: Psf) -> _Marks:
    image = band.image
    sharp = are_sharp(band.residual, image.err, image.valid, sources.segments, sources.labels, psf)
    typical = np.median(image.wht[image.valid]) if image.valid.any() else 0.0
    thin = image.wht[sources.pixels] < SHALLOW_FRACTION * typical
    return _Marks(thin, _rejected(image, sources.segments), _saturated(image, sources.segments), sharp)


def _flags_of_outlines(detection: Detection, outlines: SegmentationImage) -> NDArray[np.int32]:
    """Flags that follow from the segments alone."""
    segments, labels = outlines.data, outlines.labels
    conditions = {
        CatalogFlag.EDGE: np.isin(labels, _edge_labels(segments, ~(detection.valid | detection.holes))),
        CatalogFlag.NO_DATA: np.isin(labels, segments[detection.holes]),
        CatalogFlag.DEBLENDED: np.isin(labels, list(detection.deblended)),
    }
    return _combined(conditions)


def _flags(
    measured: Mapping[str, BandSums],
    marks: Mapping[str, _Marks],
    by_band: Mapping[str, Columns],
    sources: Sources,
    inside_hole: NDArray[np.bool_],
    psfs: Mapping[str, Psf],
) -> NDArray[np.int32]:
    labels, count = sources.labels, len(sources.labels)
    covered = np.array([sums.covered for sums in measured.values()])
    exposures = np.array([columns["exposures"] for columns in by_band.values()])
    detected = np.array([columns["flux"] > SEEN_SIGMA * columns["flux_err"] for columns in by_band.values()])
    shallow = np.any([measured[name].covered & one.thin for name, one in marks.items()], axis=0) & ~inside_hole
    conditions = {
        CatalogFlag.BLENDED: np.max([s.kron.neighbours for s in measured.values()], axis=0) > BLENDED_FRACTION,
        CatalogFlag.SHALLOW: shallow,
        CatalogFlag.TRUNCATED: np.any([s.covered & (s.kron.missing > 0) for s in measured.values()], axis=0),
        CatalogFlag.NOT_POSITIVE: ~np.any([columns["flux"] > 0 for columns in by_band.values()], axis=0),
        CatalogFlag.KRON_UNDEFINED: sources.kron_undefined,
        CatalogFlag.SINGLE_EXPOSURE: is_seen_once(covered, detected, exposures),
        CatalogFlag.SHARP: shown_only(covered & detected, np.array([one.sharp for one in marks.values()])),
        CatalogFlag.NOT_COVERED: ~covered.all(axis=0),
        CatalogFlag.PSF_FROM_STARS: np.full(count, any(psf.origin == "stars" for psf in psfs.values())),
        CatalogFlag.REJECTED: np.isin(labels, np.concatenate([one.rejected for one in marks.values()])),
        CatalogFlag.SATURATED: np.isin(labels, np.concatenate([one.saturated for one in marks.values()])),
    }
    return _combined(conditions)


def _combined(conditions: Mapping[CatalogFlag, NDArray[np.bool_]]) -> NDArray[np.int32]:
    return np.sum([flag.value * condition.astype(np.int32) for flag, condition in conditions.items()], axis=0)


def is_seen_once(
    covered: NDArray[np.bool_], detected: NDArray[np.bool_], exposures: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Find sources that only single exposures show, as they show cosmic rays.

    Other exposures, of filters in which a source is not detected, do not vouch for it.

    Parameters
    ----------
    covered, detected, exposures
        Whether each filter covers and shows each source, and in how many exposures, shape ``(filters, sources)`` each.
    """
    witness = covered & detected
    witness = np.where(witness.any(axis=0), witness, covered)
    return np.asarray(witness.any(axis=0) & np.all(~witness | (exposures == 1), axis=0))


def shown_only(shown: NDArray[np.bool_], sharp: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find sources that are sharp in all filters that show them, shape ``(filters, sources)`` each."""
    return np.asarray(shown.any(axis=0) & np.all(~shown | sharp, axis=0))


def _near_bright(
    measured: Mapping[str, BandSums],
    by_band: Mapping[str, Columns],
    sources: Sources,
    psfs: Mapping[str, Psf],
    is_star: NDArray[np.bool_],
    settings: CatalogSettings,
) -> NDArray[np.bool_]:
    """Find sources to which brighter stars add light that matters, in some filter."""
    suffixes = aperture_suffixes(settings)
    diameter = min(suffixes, key=lambda each: abs(each - DEPTH_DIAMETER_ARCSEC))
    places, near = np.stack([sources.x, sources.y], axis=1), np.zeros(len(sources.labels), bool)
    for name, sums in measured.items():
        flux = np.nan_to_num(by_band[name]["flux"])
        own, error = (sums.columns[f"{kind}_{suffixes[diameter]}"] for kind in ("aper_flux", "aper_flux_err"))
        known = sums.covered & np.isfinite(own) & (error > 0)
        if not known.any():
            continue
        light = starlight(places, flux, is_star & known, psfs[name], diameter, float(error[known].min()))
        near |= known & (light > np.maximum(BRIGHT_FRACTION * own, error))
    return near


def _saturated(image: MosaicImage, segments: NDArray[np.int32]) -> NDArray[np.int32]:
    """Labels of segments with a saturated pixel."""
    return segments[(image.dq & pixel["SATURATED"]) > 0] if image.dq is not None else np.zeros(0, np.int32)


def _rejected(image: MosaicImage, segments: NDArray[np.int32]) -> NDArray[np.integer]:
    if image.exposures is None or not image.valid.any():
        return np.zeros(0, np.int32)
    return rejected_labels(segments, image.sci, image.wht, image.exposures)


def _edge_labels(segments: NDArray[np.int32], uncovered: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Labels of the segments beside a gap or on the border."""
    beside = ndimage.binary_dilation(uncovered, structure=np.ones((3, 3)), border_value=1)
    return np.unique(segments[beside])


def make_psf(
    mosaic: Path,
    model: Path | None,
    background_box_arcsec: float,
    pixfrac: float,
    band: str,
    stem: str,
    folder: Path,
) -> Made:
    """Write the PSF of a mosaic (``_i2d``): the user's, or of the stars of the field, or computed.

    Stars are searched section by section, so that memory does not grow with the mosaic.
    """
    mosaics = open_mosaics({band: mosaic})
    if model is not None:
        psf = read_psf(model, mosaics.scale_arcsec)
    else:
        computed = model_psf(band, mosaics.scale_arcsec, pixfrac)
        sections = sections_of(mosaics.shape, round(background_box_arcsec / mosaics.scale_arcsec))
        candidates = [_candidates(mosaics, band, section, background_box_arcsec, computed) for section in sections]
        psf = star_psf(candidates, computed) or computed
    path = write_psf(psf, band, folder / f"{stem}_psf.fits")
    return Made(psf=path, facts={"psf_fwhm": psf.fwhm_arcsec, "psf_stars": float(psf.stars)})


def _candidates(
    mosaics: MosaicSet, band: str, section: Section, background_box_arcsec: float, computed: Psf
) -> StarCandidates:
    image = mosaics.read_band(band, section.padded)
    background = prepare(image, background_box_arcsec).background
    return find_candidates(image, background, computed, section.own_in_padded)


def measure_sources(
    mosaics: Mapping[str, Path], psfs: Mapping[str, Path], settings: CatalogSettings, stem: str, folder: Path
) -> Made:
    """Write the catalogue and the segmentation map of a window, from its mosaics (``_i2d``) and PSFs by filter."""
    names = [name for name in mosaics if name in psfs]
    opened = open_mosaics({name: mosaics[name] for name in names})
    images = {name: read_psf(psfs[name], opened.scale_arcsec) for name in names}
    catalog = measure_mosaics(opened, images, settings, folder)
    files = write_catalog(catalog.table, catalog.segments, catalog.wcs, folder, stem)
    return Made(catalog=files.parquet, segments=files.segments, facts={"n_sources": float(len(catalog.table))})
