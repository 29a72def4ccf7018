"""The catalogue as input of EAZY (Brammer, van Dokkum & Coppi 2008, ApJ 686, 1503), for photometric redshifts."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cosmosaic.steps.result import Made

LISTED = (
    "F070W", "F090W", "F115W", "F150W", "F200W", "F150W2", "F140M", "F162M", "F182M", "F210M",
    "F164N", "F187N", "F212N", "F277W", "F356W", "F444W", "F322W2", "F250M", "F300M", "F335M",
    "F360M", "F410M", "F430M", "F460M", "F480M", "F323N", "F405N", "F466N", "F470N",
)  # fmt: skip
"""NIRCam's filters in the order of FILTER.RES.latest (https://github.com/gbrammer/eazy-photoz, filters/)."""
NUMBERS = {band: number for number, band in enumerate(LISTED, start=362)}
"""Number of each filter in FILTER.RES.latest: ``jwst_nircam_f070w`` is 362, ``jwst_nircam_f470n`` 390."""
NOT_OBSERVED = -99.0
"""Flux and error of a source in a filter that does not cover it."""
NJY_PER_UJY = 1000.0
MOST_FILTERS = 5
"""Filters that EAZY demands of a source, by default."""


def write_eazy(
    parts: Mapping[str, Path], bands: tuple[str, ...], numbers: Mapping[str, int], stem: str, folder: Path
) -> Made:
    """Write total fluxes of all sources for EAZY: ``<stem>.cat``, ``<stem>.translate`` and ``<stem>.param``.

    Parameters
    ----------
    parts
        Each window's part of the data set.
    bands
        Filters of the survey, and of other telescopes.
    numbers
        Numbers of the latter in FILTER.RES.latest, where they are known.
    stem
        Beginning of the names.
    folder
        An existing folder.
    """
    fluxes = {band: (f"{band.lower()}_flux", f"{band.lower()}_flux_err") for band in bands}
    needed = ["id", "ra", "dec", *(name for pair in fluxes.values() for name in pair)]
    tables = [pq.ParquetFile(path) for _, path in sorted(parts.items())]
    has_reddening = all("ebv" in one.schema_arrow.names for one in tables)
    table = pa.concat_tables([one.read([*needed, *(["ebv"] if has_reddening else [])]) for one in tables])
    table = table.replace_schema_metadata().sort_by("id")
    files = {kind: folder / f"{stem}.{kind}" for kind in ("cat", "translate", "param")}
    columns = [table["id"].to_numpy(), table["ra"].to_numpy(), table["dec"].to_numpy()]
    for name in needed[3:]:
        microjansky = table[name].to_numpy().astype(np.float64) / NJY_PER_UJY
        columns.append(np.where(np.isfinite(microjansky), microjansky, NOT_OBSERVED))
    formats = ["%d", "%.8f", "%.8f", *["%.6g"] * (len(needed) - 3)]
    np.savetxt(files["cat"], np.stack(columns, axis=1), fmt=formats, header=" ".join(needed))
    numbered = NUMBERS | dict(numbers)
    known = {band: names for band, names in fluxes.items() if band in numbered}
    files["translate"].write_text(
        "".join(
            f"{name} {kind}{numbered[band]}\n"
            for band, names in known.items()
            for kind, name in zip("FE", names, strict=True)
        )
    )
    reddening = pc.mean(table["ebv"]).as_py() if has_reddening else None
    unknown = [band for band in bands if band not in numbered]
    files["param"].write_text(_parameters(stem, len(known), unknown, reddening))
    return Made(catalog=files["cat"], translate=files["translate"], parameters=files["param"])


def _parameters(stem: str, filters: int, unknown: list[str], reddening: float | None) -> str:
    """The parameters that follow from the catalogue; EAZY has defaults for all others."""
    told = "mean E(B-V) of the sources" if reddening is not None else "not known: no source has an E(B-V)"
    lines = [
        f"# Parameters of EAZY for {stem}.cat; the translate file is {stem}.translate",
        *(
            f"# {band} has no number in FILTER.RES.latest and is left out: add its curve and its lines"
            for band in unknown
        ),
        "FILTERS_RES       FILTER.RES.latest",
        f"CATALOG_FILE      {stem}.cat",
        "CATALOG_FORMAT    ascii.commented_header",
        "MAGNITUDES        n       # total fluxes in microjansky",
        "PRIOR_ABZP        23.9    # AB magnitude of one microjansky",
        f"NOT_OBS_THRESHOLD -90     # {NOT_OBSERVED:g} where a filter does not cover the source",
        f"N_MIN_COLORS      {max(1, min(MOST_FILTERS, filters))}",
        "CAT_HAS_EXTCORR   n       # fluxes are not corrected for the Milky Way",
        f"MW_EBV            {reddening or 0.0:.4f}  # {told}",
        "APPLY_PRIOR       n       # EAZY's own prior is for a filter that is not in the catalogue",
        f"MAIN_OUTPUT_FILE  {stem}",
    ]
    return "\n".join([*lines, ""])
