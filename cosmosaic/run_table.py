"""The run table: one row per product and run, over all runs of a survey.

It is a folder of Parquet files, which Parquet readers take for one table. Each run writes its own file, so
that simultaneous runs lose nothing, and a run costs the same however many there were before. ``cosmosaic summary URL``
prints it.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from cosmosaic.records import StoredObject
from cosmosaic.storage import store

COLUMNS = (
    "run_id",
    "flow_run_id",
    "survey",
    "state",
    "error",
    "start",
    "end",
    "wall_s",
    "cpu_s",
    "peak_mb",
    "requests",
    "bytes_read",
    "bytes_written",
    "bytes_kept",
    "cost_cpu",
    "cost_kept_month",
    "cost_currency",
    "steps_executed",
    "steps_cached",
    "steps_failed",
    "kind",
    "filter",
    "tile",
    "frames",
    "frames_sha256",
    "frames_refused",
    "frames_excluded",
    "exposure_time_s",
    "parameters_sha256",
    "cosmosaic_version",
    "jwst_version",
    "calibration_version",
    "crds_context",
    "sky_median_mjy_sr",
    "sky_rms_mjy_sr",
    "sky_verdict",
    "sky_step_state",
    "sky_zero_state",
    "sky_step_pct",
    "sky_steps_pct",
    "sky_levels_pct",
    "sky_zero_pct",
    "sky_rows_pct",
    "sky_columns_pct",
    "sky_detector_pct",
    "sky_halo_pct",
    "sky_growth_pct",
    "sky_moved_mjy_sr",
    "align_moved_mas",
    "flux_moved_mag",
    "astrometry_verdict",
    "astrometry_exposure_mas",
    "astrometry_roll_mas",
    "astrometry_detector_mas",
    "astrometry_module_mas",
    "astrometry_scale_ppm",
    "astrometry_matches_pct",
    "astrometry_filter_mas",
    "astrometry_cell_mas",
    "astrometry_absolute_mas",
    "flux_scale_mmag",
    "star_fwhm_ratio",
    "star_ellipticity",
    "sharpness_stars",
    "stars",
    "stage1_engine",
    "groups_without_search",
    "dark_left",
    "planes_different",
    "engine_difference",
    "implausible_pixels",
    "persistence_pixels",
    "persistence_exposures",
    "persistence_unknown",
    "region_pixels",
    "outlier_pixels",
    "noise_factor",
    "depth_5sigma_ab",
    "psf_fwhm_arcsec",
    "psf_stars",
    "sources",
    "catalogue_arcmin2",
    "injection_verdict",
    "injected_sources",
    "injection_completeness_pct",
    "injection_bias_mag",
    "injection_galaxy_bias_mag",
    "injection_pull_width",
    "injection_purity_pct",
    "product",
    "sha256",
    "size",
)
"""Columns of the run table, in order."""

RUNNING, CRASHED, CANCELLED = "Running", "Crashed", "Cancelled"
"""States of a run that has not ended, whose process died, that was stopped."""

TEXT_COLUMNS = frozenset(
    {
        "run_id", "flow_run_id", "survey", "state", "error", "start", "end", "kind", "filter", "tile",
        "frames_sha256", "parameters_sha256", "cosmosaic_version", "jwst_version", "calibration_version",
        "crds_context", "product", "sha256", "sky_verdict", "sky_step_state", "sky_zero_state", "frames_excluded",
        "stage1_engine", "cost_currency", "injection_verdict", "astrometry_verdict",
    }
)  # fmt: skip


TABLE = "summary.parquet"
"""The folder of the table, below the products."""
MILLISECONDS_DIGITS = 17
"""Of a time, to the millisecond: a run that only looks up can end within a second."""


def run_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with all columns, in order and of fixed types.

    Raises
    ------
    KeyError
        A row has a column that the run table does not have.
    """
    unknown = {name for row in rows for name in row} - set(COLUMNS)
    if unknown:
        raise KeyError(f"the run table has no columns {sorted(unknown)}")
    return _typed(pd.DataFrame(rows))


def write_run(rows: list[dict[str, Any]], products: str, run_id: str) -> StoredObject:
    """Write one run's rows to its part of ``<products>/summary.parquet``, and to ``<products>/summary.csv``.

    Returns
    -------
    StoredObject
        The run's part of the table.

    Raises
    ------
    ValueError
        An earlier version left a table that is a single file and cannot be read.
    """
    _take_in_single_file(products)
    table = run_frame(rows)
    stored = _write_part(table, products, run_id)
    with tempfile.TemporaryDirectory(prefix="cosmosaic-summary-") as folder:
        path = Path(folder) / "table.csv"
        table.to_csv(path, index=False)
        store.publish(path, store.join(products, "summary.csv"))
    return stored


def mark_crashed(products: str, run_id: str) -> bool:
    """Mark a run whose process has died, where the run table still shows it as running; tell whether it did."""
    for listed in store.list_objects(store.join(products, TABLE), f"*_{run_id}.parquet"):
        rows = _read(listed.uri)
        if set(rows["state"]) != {RUNNING}:
            return False
        rows["state"], rows["error"] = CRASHED, "its process ended without a word: killed, or its machine died"
        _write_table(rows, listed.uri)
        return True
    return False


def read_runs(products: str) -> pd.DataFrame:
    """Read the rows of all runs, in the order the runs started."""
    whole = store.join(products, TABLE)
    if store.stat(whole) is not None:
        return _read_single_file(whole)
    tables = [_read(listed.uri) for listed in store.list_objects(whole, "*.parquet")]
    if not tables:
        return run_frame([])
    return pd.concat(tables, ignore_index=True).sort_values(["start", "run_id"], kind="stable", ignore_index=True)


def _read(uri: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(store.read_bytes(uri)))


def _read_single_file(whole: str) -> pd.DataFrame:
    try:
        return _typed(_read(whole))
    except (ValueError, OSError) as error:
        raise ValueError(f"{whole}: no run table, and in the place of one ({error}); move it away") from error


def _take_in_single_file(products: str) -> None:
    """Make the table that earlier versions wrote as a single file the first part of the folder; a copy stays."""
    whole = store.join(products, TABLE)
    if store.stat(whole) is None:
        return
    earlier = _read_single_file(whole)
    store.publish_bytes(store.read_bytes(whole), store.join(products, "summary-earlier.parquet"))
    store.remove(whole)
    if not earlier.empty:
        _write_part(earlier, products, "earlier")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of the run table, in order and of their types; missing ones are empty."""
    types = {name: "string" if name in TEXT_COLUMNS else "float64" for name in COLUMNS}
    return table.reindex(columns=list(COLUMNS)).astype(types)


def _write_part(table: pd.DataFrame, products: str, run_id: str) -> StoredObject:
    """Write the rows of one run; names of parts sort as the runs started, and so do the rows of all parts."""
    started = "".join(filter(str.isdigit, table["start"].iloc[0]))[:MILLISECONDS_DIGITS]
    return _write_table(table, store.join(products, TABLE, f"{started}_{run_id}.parquet"))


def _write_table(table: pd.DataFrame, uri: str) -> StoredObject:
    with tempfile.TemporaryDirectory(prefix="cosmosaic-summary-") as folder:
        path = Path(folder) / "table.parquet"
        table.to_parquet(path, index=False)
        return store.publish(path, uri)


def main(arguments_given: list[str]) -> int:
    """Print the run table of a survey; return the exit code."""
    parser = argparse.ArgumentParser(prog="cosmosaic summary", description="Print a survey's run table.")
    parser.add_argument("url", help="the survey's products folder or URL, e.g. demo/products or s3://bucket/products")
    parser.add_argument("--products", action="store_true", help="the products of the last run as well")
    parser.add_argument("--all", action="store_true", help="all columns of all products of all runs")
    arguments = parser.parse_args(arguments_given)
    table = read_runs(arguments.url)
    if table.empty:
        print(f"no runs are recorded under {arguments.url}", file=sys.stderr)
        return 1
    shown = [table] if arguments.all else [_runs(table)]
    if arguments.products and not arguments.all:
        shown.append(_products(table[table["run_id"] == table["run_id"].iloc[-1]]))
    print("\n\n".join(_text(each) for each in shown))
    return 0


def _runs(table: pd.DataFrame) -> pd.DataFrame:
    """A row per run, in 80 columns; steps are done, found in the cache, or failed."""
    runs = table.groupby("run_id", sort=False)
    first = runs.first()
    return pd.DataFrame(
        {
            "start [UTC]": first["start"].str[:16].str.replace("T", " "),
            "state": first["state"],
            "mosaics": runs["kind"].apply(lambda kinds: int((kinds == "i2d").sum())),
            "done": first["steps_executed"],
            "found": first["steps_cached"],
            "failed": first["steps_failed"],
            "wall [s]": first["wall_s"].round(),
            "CPU [s]": first["cpu_s"].round(),
        }
    )


def _products(table: pd.DataFrame) -> pd.DataFrame:
    """A row per product, with whole names; exposures are left out."""
    shown = table[~table["kind"].isin(["rate", "cal", "crf"]) & table["product"].notna()]
    return pd.DataFrame(
        {
            "product": shown["product"].str.rsplit("/", n=1).str[-1],
            "size [MB]": (shown["size"] / 1e6).round(2),
            "exp. [s]": shown["exposure_time_s"].round(),
            "sky": shown["sky_verdict"],
        }
    )


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda value: f"{value:.6g}", na_rep="-")
