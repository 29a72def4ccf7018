"""Ids for the sources of all windows of a survey: those that were there keep theirs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import MaskedColumn
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cosmosaic.catalog.columns import as_table, column_specs, extinction_specs, with_columns
from cosmosaic.catalog.extinction import reddening
from cosmosaic.catalog.files import arrow_table, read_catalog, write_catalog
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.catalog.ids import PartOfSurvey, SourceIds, SurveyIds, ids_table
from cosmosaic.geometry.sphere import unit_vectors
from cosmosaic.steps.result import Made
from cosmosaic.survey import CatalogSettings

SAME_ARCSEC = 0.3
"""Largest distance between two positions of one source, in two windows or in two runs."""
MOVED_ARCSEC = 3.0
"""Within this distance a source is sought that has no longer its place."""


def number_sources(
    catalogs: Mapping[str, Path], kept: SourceIds, digests: Mapping[str, str], stem: str, folder: Path
) -> Made:
    """Write the ids of all sources: ``<stem>.ecsv``, and ``<window>_numbers.parquet`` in the order of its rows.

    The latter have columns ``id``, ``name`` and ``own``: whether the source counts as this window's.

    Parameters
    ----------
    catalogs
        Catalogue (``_cat.parquet``) by window.
    kept
        Sources that have ids.
    digests
        sha256 of the catalogues.
    """
    columns = ["name", "ra", "dec", "flags"]
    windows = {tile: pq.read_table(path, columns=columns) for tile, path in sorted(catalogs.items())}
    found = pa.concat_tables(windows.values())
    window = np.repeat(np.arange(len(windows)), [len(table) for table in windows.values()])
    name, ra, dec, flags = (found[column].to_numpy() for column in columns)
    sources, ids = numbered(kept, name, ra, dec, window)
    near, moved = count_moved(kept, ra, dec)
    own = own_rows(ids, window, (flags & CatalogFlag.EDGE) > 0)
    names = dict(zip(sources.ids, sources.names, strict=True))
    numbers = {}
    for number, tile in enumerate(windows):
        here = window == number
        called = pa.array([names[one] for one in ids[here]], pa.string())
        numbers[tile] = folder / f"{tile}_numbers.parquet"
        pq.write_table(pa.table({"id": ids[here], "name": called, "own": own[here]}), numbers[tile])
    table = folder / f"{stem}.ecsv"
    survey = SurveyIds(sources=sources, known=len(kept.ids), catalogs=dict(digests))
    ids_table(survey).write(table, format="ascii.ecsv")
    # A crowd and a shallower image lose some; more than half is a move.
    return Made(table=table, numbers=numbers, facts={"ids_moved": float(moved if 2 * moved > near else 0)})


def numbered(
    kept: SourceIds, name: NDArray, ra: NDArray[np.float64], dec: NDArray[np.float64], window: NDArray[np.int64]
) -> tuple[SourceIds, NDArray[np.int64]]:
    """Give ids to sources: the ids that they have, or new ones above the highest that was ever given.

    Parameters
    ----------
    kept
        Sources that have ids; those that are not found again stay in the list.
    name, ra, dec, window
        Designation, position in degrees and window of each source found, shape ``(n,)``, the windows in order.

    Returns
    -------
    sources : SourceIds
        The sources of old, then the new ones.
    ids : ndarray
        The id of each source found.
    """
    known = len(kept.ids)
    sky = np.stack([np.append(kept.ra, ra), np.append(kept.dec, dec)], axis=1)
    same = same_sources(sky, np.append(np.full(known, -1), window))
    highest = max(kept.ids, default=0)
    # A group is called by its first position: of old if it has one, else in the first window.
    new = np.unique(same[same >= known])
    ids = np.zeros(len(sky), np.int64)
    ids[:known] = kept.ids
    ids[new] = highest + 1 + np.arange(len(new))
    rows = new - known
    sources = SourceIds(
        ids=(*kept.ids, *ids[new].tolist()),
        names=(*kept.names, *np.asarray(name)[rows].tolist()),
        ra=(*kept.ra, *np.asarray(ra)[rows].tolist()),
        dec=(*kept.dec, *np.asarray(dec)[rows].tolist()),
    )
    return sources, ids[same[known:]]


def count_moved(kept: SourceIds, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> tuple[int, int]:
    """Count the sources with ids that have a source of now within `MOVED_ARCSEC`, and those of them that it is not.

    Others lie outside the windows, or have vanished. New sources, however many, count for nothing.

    Parameters
    ----------
    kept
        Sources that have ids.
    ra, dec
        Position in degrees of each source found, shape ``(n,)``.
    """
    if not len(ra) or not kept.ids:
        return 0, 0
    tree = KDTree(unit_vectors(np.stack([ra, dec], axis=1)))
    distance, _ = tree.query(unit_vectors(np.stack([kept.ra, kept.dec], axis=1)))
    near = distance < _chord(MOVED_ARCSEC)
    return int(np.count_nonzero(near)), int(np.count_nonzero(near & (distance > _chord(SAME_ARCSEC))))


def _chord(arcsec: float) -> float:
    """Distance of unit vectors at an angle."""
    return float(2.0 * np.sin(np.radians(arcsec / 3600.0) / 2.0))


def own_rows(ids: NDArray[np.int64], window: NDArray[np.int64], is_cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Choose one row of each source: that of the first window in which it is not cut by the border.

    Parameters
    ----------
    ids, window, is_cut
        Id, number of the window, and whether the border cuts the source, of each row, shape ``(n,)``.
    """
    order = np.lexsort((window, is_cut))
    own = np.zeros(len(ids), bool)
    own[order[np.unique(ids[order], return_index=True)[1]]] = True
    return own


def same_sources(sky: NDArray[np.float64], window: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group positions of the same source: the nearest first, those of sources of old before all others.

    Positions belong together within `SAME_ARCSEC`, and a group has at most one of each window.

    Parameters
    ----------
    sky
        RA and Dec in degrees, shape ``(n, 2)``.
    window
        Number of each position's window; -1 for sources of old, shape ``(n,)``.

    Returns
    -------
    group : ndarray
        Index of the first position of each one's group.
    """
    vectors = unit_vectors(sky)
    group = np.arange(len(sky))
    if not len(sky):
        return group
    pairs = KDTree(vectors).query_pairs(_chord(SAME_ARCSEC), output_type="ndarray")
    pairs = pairs[window[pairs[:, 0]] != window[pairs[:, 1]]]
    distance = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distance, window[pairs].min(axis=1) >= 0))
    members, windows = dict[int, list[int]](), window.tolist()
    for one, other in pairs[order].tolist():
        first, second = sorted((int(group[one]), int(group[other])))
        both = [members.get(each, [each]) for each in (first, second)]
        if first == second or not {windows[each] for each in both[0]}.isdisjoint(windows[each] for each in both[1]):
            continue
        members[first] = both[0] + both[1]
        group[members[first]] = first
    return group


class _Renumbered:
    """A segmentation map on disk with other numbers."""

    def __init__(self, plane: fits.ImageHDU, numbers: NDArray[np.int32]) -> None:
        self._plane, self._numbers, self.shape = plane, numbers, plane.shape

    def __getitem__(self, rows: slice) -> NDArray[np.int32]:
        return self._numbers[self._plane.section[rows]]


def number_catalog(
    catalog: Path,
    segments: Path,
    numbers: Path,
    extinction: Path | None,
    part: PartOfSurvey,
    settings: CatalogSettings,
    folder: Path,
) -> Made:
    """Write the catalogue and the segmentation map of a window with the survey's ids, and its part of the data set.

    With a map, sources get their E(B-V).

    Parameters
    ----------
    catalog, segments
        ``_cat.parquet`` and ``_segm.fits`` with numbers of the window's own.
    numbers
        What `number_sources` wrote for the window.
    extinction
        Map of E(B-V).
    part
        The window and the survey.
    settings
        Settings of the catalogue.
    folder
        Gets ``<survey>_<tile>_cat.ecsv``, ``_cat.parquet``, ``_segm.fits``, and
        ``<survey>_catalog.parquet/tile=<tile>/<survey>_<tile>_part.parquet`` with the sources that are its own.
    """
    table = read_catalog(catalog)
    survey = pq.read_table(numbers)
    ids = survey["id"].to_numpy()
    labels = np.zeros(len(table) + 1, np.int32)
    labels[np.asarray(table["id"])] = ids
    for name, values in (("id", ids), ("name", np.array(survey["name"].to_pylist(), dtype=str))):
        column = table[name]
        table[name] = MaskedColumn(values, description=column.description, meta=column.meta)
    more = extinction_specs() if extinction else {}
    if extinction:
        ebv = reddening(extinction, np.asarray(table["ra"]), np.asarray(table["dec"]))
        table["ebv"] = as_table(more, {"ebv": ebv})["ebv"]
        table.meta["extinction_map"] = extinction.name
        table = with_columns(table, column_specs(table.meta["bands"], settings, more))
    stem = f"{part.survey}_{part.tile}"
    ecsv = folder / f"{stem}_cat.ecsv"
    with fits.open(segments) as hdus:
        plane = hdus["SEGM"]
        files = write_catalog(table, _Renumbered(plane, labels), WCS(plane.header), folder, stem)
    table.write(ecsv, format="ascii.ecsv")
    own = with_columns(table[survey["own"].to_numpy()], column_specs(part.bands, settings, more))
    path = folder / f"{part.survey}_catalog.parquet" / f"tile={part.tile}" / f"{stem}_part.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(arrow_table(own), path)
    facts = {"n_sources": float(len(table))}
    return Made(catalog=ecsv, parquet=files.parquet, segments=files.segments, part=path, facts=facts)
