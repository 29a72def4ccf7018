"""Software and reference files with which exposures were calibrated, here or by their supplier."""

from collections.abc import Iterable

from cosmosaic.records import Exposure

UNKNOWN = "unknown"


def calibration_columns(exposures: Iterable[Exposure], jwst_version: str, crds_context: str) -> dict[str, str]:
    """Return the columns of the run table about the calibration of some exposures.

    Parameters
    ----------
    exposures
        At the level at which they enter: ramps are calibrated by this run, count rates partly so, calibrated ones not.
    jwst_version, crds_context
        Version of jwst and CRDS context of this run.
    """
    versions, contexts = set[str](), set[str]()
    for exposure in exposures:
        if exposure.level != "cal":
            versions.add(jwst_version)
            contexts.add(crds_context)
        if exposure.level != "uncal":
            versions.add(exposure.calibration_version or UNKNOWN)
            contexts.add(exposure.crds_context or UNKNOWN)
    return {"calibration_version": "; ".join(sorted(versions)), "crds_context": "; ".join(sorted(contexts))}
