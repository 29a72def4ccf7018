"""``cosmosaic trace``: which exposures a product, or a source of a catalogue, was made of."""

import argparse
import io
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from cosmosaic.catalog.steps import Catalog, CatalogParquet, CatalogPart
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.files import Cal, Rate, Uncal
from cosmosaic.geometry.sphere import footprints_overlap
from cosmosaic.lineage import FOLDER, Lineage, read_lineages
from cosmosaic.mosaic.steps import Mosaic
from cosmosaic.outliers.steps import Crf
from cosmosaic.storage import store

SIMULATION = "cosmosaic.simulate."
"""Steps that stand in for the telescope: a simulated exposure counts as an observed one."""
LIGHT = tuple(kind.suffix for kind in (Uncal, Rate, Cal, Crf, Mosaic, Catalog, CatalogParquet, CatalogPart))
"""Endings of the files through which light passes; others pass on levels, positions, masks and verdicts."""
EXPOSURES = tuple(kind.suffix for kind in (Uncal, Rate, Cal))
CATALOGUE = "_cat.parquet"
DEEPEST = 3
"""Folders between a product and the folder of all products, at the most."""


class Origin(NamedTuple):
    """What a product was made of."""

    run_id: str
    """The last run that made it or looked it up."""
    exposures: tuple[str, ...]
    """URIs of the exposures whose light is in it."""
    helpers: tuple[str, ...]
    """URIs of the exposures that only levels, positions or verdicts were measured on."""
    others: tuple[str, ...]
    """URIs of the reference files, templates and tables."""


def main(arguments_given: list[str]) -> int:
    """Print the exposures that a product was made of, a URI on each line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="cosmosaic trace", description="Print the exposures that a product was made of, and on stderr the rest."
    )
    parser.add_argument("product", help="its path or URL, e.g. demo/products/cosmos-demo_f150w_30mas_full_i2d.fits")
    parser.add_argument(
        "--source", type=int, help=f"a source's id in a catalogue ({CATALOGUE}): only those that saw it"
    )
    parser.add_argument("--references", action="store_true", help="list the reference files and tables as well")
    given = parser.parse_args(arguments_given)
    try:
        origin = trace(given.product)
        exposures = origin.exposures
        if given.source is not None:
            exposures = those_that_saw(exposures, *position_of(given.product, given.source))
    except (OSError, LookupError, ValueError) as error:
        print(f"error: {error.args[0] if isinstance(error, LookupError) else error}", file=sys.stderr)
        return 1
    print("\n".join(exposures))
    print(
        f"{len(exposures)} exposures; {len(origin.helpers)} more served only to measure levels, positions or verdicts; "
        f"{len(origin.others)} reference files and tables; by run {origin.run_id}",
        file=sys.stderr,
    )
    if given.references:
        print("\n".join(origin.others))
    return 0


def trace(product: str) -> Origin:
    """Tell what a product was made of, by the last run that knows it.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    LookupError
        No run knows the file with these bytes.
    """
    uri = store.absolute_uri(product)
    if store.stat(uri) is None:
        raise FileNotFoundError(f"there is no file {product}")
    sha256 = store.checksum(uri).sha256
    for lineage in _lineages_near(uri):
        if lineage.sha256.get(uri) == sha256 and uri in lineage.made_of:
            return origin_of(uri, lineage)
    raise LookupError(
        f"no run that is recorded in {FOLDER}/ of the products made {product} with the bytes that it has now: "
        "give a product where the run put it; if it was altered, run the survey again"
    )


def origin_of(uri: str, lineage: Lineage) -> Origin:
    """Follow the files that a file was made of to those that no step made."""
    light = _leaves(uri, lineage, LIGHT)
    every = _leaves(uri, lineage, ("",))
    exposures = sorted(one for one in light if one.endswith(EXPOSURES))
    helpers = sorted(one for one in every - light if one.endswith(EXPOSURES))
    return Origin(lineage.run_id, tuple(exposures), tuple(helpers), tuple(sorted(every - {*exposures, *helpers})))


def position_of(catalogue: str, source: int) -> tuple[float, float]:
    """Return RA and Dec in degrees, ICRS, of a source of a catalogue.

    Raises
    ------
    ValueError
        The file is not a catalogue.
    LookupError
        It has no such source.
    """
    if not catalogue.endswith(CATALOGUE):
        raise ValueError(f"{catalogue} is not a catalogue: --source needs a file that ends in {CATALOGUE}")
    table = pd.read_parquet(io.BytesIO(store.read_bytes(store.absolute_uri(catalogue))), columns=["id", "ra", "dec"])
    found = table[table["id"] == source]
    if found.empty:
        raise LookupError(f"{catalogue} has no source with id {source}")
    return float(found["ra"].iloc[0]), float(found["dec"].iloc[0])


def those_that_saw(exposures: tuple[str, ...], ra: float, dec: float) -> tuple[str, ...]:
    """Return those exposures whose footprint, by their headers, has a position in degrees."""
    return tuple(uri for uri in exposures if footprints_overlap(describe_exposure(uri).footprint, [(ra, dec)]))


def _leaves(uri: str, lineage: Lineage, endings: tuple[str, ...]) -> set[str]:
    """Files that no step made, reached from a file by way of its copies and of files with some endings."""
    leaves, seen, waiting = set[str](), {uri}, [uri]
    while waiting:
        one = waiting.pop()
        if one not in lineage.made_by or lineage.made_by[one].startswith(SIMULATION):
            leaves.add(one)
            continue
        name = f"/{one.rpartition('/')[2]}"
        new = {each for each in lineage.made_of[one] - seen if each.endswith((*endings, name))}
        seen |= new
        waiting += new
    return leaves


def _lineages_near(uri: str) -> Iterator[Lineage]:
    """The lineages of the runs whose products a file is among, the last run first."""
    folder = uri
    for _ in range(DEEPEST):
        folder = folder.rpartition("/")[0]
        yield from read_lineages(folder)
