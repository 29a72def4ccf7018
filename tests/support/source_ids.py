"""Products of surveys whose sources were found by different runs first, and so have different ids."""

from typing import IO

import pandas as pd

WITH_IDS = (
    "_ids.ecsv", "_cat.ecsv", "_cat.parquet", "_part.parquet", "_segm.fits", "_eazy.cat", "_catalogue.html"
)  # fmt: skip
"""Products with ids and names of sources, which stay those of the first run that had them."""


def different_but_for_ids(first: dict[str, str], second: dict[str, str]) -> set[str]:
    """Return the products whose sha256 differ, or which one has alone, except those with ids."""
    names = first.keys() | second.keys()
    different = {name for name in names if first.get(name) != second.get(name)}
    return {name for name in different if not name.endswith(WITH_IDS) or name not in first.keys() & second.keys()}


def assert_same_sources(first: IO[bytes], second: IO[bytes]) -> None:
    """Compare two catalogues, but for the names of their sources."""
    catalogs = [pd.read_parquet(file) for file in (first, second)]
    assert all(catalog["id"].is_unique for catalog in catalogs)
    pd.testing.assert_frame_equal(*(catalog.drop(columns=["id", "name"]) for catalog in catalogs))
