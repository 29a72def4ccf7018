"""Settings for detectors or filters that were not observed."""

from collections.abc import Iterable

from cosmosaic.records import Exposure
from cosmosaic.survey import Survey


def unused_settings(survey: Survey, exposures: Iterable[Exposure]) -> tuple[str, ...]:
    """List the user's files for detectors or filters that were not observed, in one sentence each.

    Parameters
    ----------
    survey
        The settings.
    exposures
        All exposures that take part.
    """
    exposures = list(exposures)
    detectors, bands = {exposure.detector for exposure in exposures}, {exposure.band for exposure in exposures}
    pairs = {f"{exposure.detector}_{exposure.band}" for exposure in exposures}
    return (
        *_unused("references.gain_maps", survey.references.gain_maps, detectors),
        *_unused("sky.wisp_templates", survey.sky.wisp_templates, pairs),
        *_unused("sky.source_masks", survey.sky.source_masks, bands),
        *_unused("catalog.psfs", survey.catalog.psfs, bands),
        *_unused("catalog.detector_psfs", survey.catalog.detector_psfs, pairs | bands),
    )


def _unused(setting: str, names: Iterable[str], observed: set[str]) -> list[str]:
    there = ", ".join(sorted(observed)) or "nothing"
    return [
        f"{setting}: no exposure is of {name}, so its file is not used; observed are {there}"
        for name in sorted(set(names) - observed)
    ]
