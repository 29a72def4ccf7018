"""A survey of calibrated exposures from its files to its products, by the flow's own order, without an orchestrator."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmosaic.artefacts.steps import mask_regions
from cosmosaic.astrometry.steps import align_bands
from cosmosaic.catalog.steps import number_catalogs, submit_catalogs, submit_images
from cosmosaic.drizzle.steps import InspectExposure
from cosmosaic.exposures.associations import make_associations
from cosmosaic.exposures.band import Band
from cosmosaic.exposures.files import Cal
from cosmosaic.exposures.search import find_exposures
from cosmosaic.exposures.windows import on_grid_of_image, survey_windows
from cosmosaic.steps.declaration import Outputs
from cosmosaic.steps.files import File, Many
from cosmosaic.steps.local import LocalJob, result_of
from cosmosaic.survey import Survey
from flows.mosaic import combine, publish_band
from support.here import Here


class WholeRun(LocalJob):
    """A job that keeps what is published."""

    worker_gb = 8.0

    def __init__(self, survey: Survey, folder: Path) -> None:
        super().__init__(survey, folder, Here())
        self.published: list[File] = []

    def publish(self, label: str, made: Iterable[Outputs | File | None], *columns: Any) -> None:
        """Keep the files that would be published."""
        for one in made:
            self.published += [one] if isinstance(one, File) else one.published if one else []


@dataclass
class Produced:
    """What became of a survey."""

    refused: dict[str, str] = field(default_factory=dict)
    """Reason by file name."""
    members: tuple[str, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)
    """Published files by name."""


def produce(survey: Survey, folder: Path) -> Produced:
    """Make the products of the exposures of one filter; an error of any step that is no refusal is raised."""
    survey = on_grid_of_image(survey)
    found = find_exposures(survey.url("raw"))
    produced = Produced({Path(refused.uri).name: refused.reason for refused in found.refused})
    job = WholeRun(survey, folder)
    exposures = {exposure.name: exposure for exposure in found.exposures}
    windows = survey_windows(found.exposures, survey, ())
    cals = mask_regions(exposures, {name: Cal(each.object) for name, each in exposures.items()}, job)
    usable = _usable(cals, job, produced)
    (association,) = make_associations(found.exposures, survey.name)
    kept = {name: usable[name] for name in association.members if name in usable}
    band = Band(association.model_copy(update={"members": tuple(kept)}), exposures, kept)
    (aligned,) = align_bands([band], (), job)
    combined = combine(aligned, windows[band.name], None, job)
    publish_band(combined, job)
    measured = {band.name: combined.measured}
    catalogs = number_catalogs(submit_catalogs(measured, submit_images(measured, job), job), (band.name,), job)
    job.publish("catalogue", catalogs.windows.values())
    produced.members = band.members
    for file in job.published:
        if isinstance(file, Many):
            produced.files |= {Path(stored.uri).name: Path(stored.uri) for stored in _stored(file).values()}
        elif (path := _path(job, file)) is not None:
            produced.files[path.name] = path
    return produced


def _usable(cals: Mapping[str, Cal], job: WholeRun, produced: Produced) -> dict[str, Cal]:
    usable = {}
    for name, cal in cals.items():
        try:
            inspected = job.submit(InspectExposure(exposure=cal, weight_type=job.survey.drizzle.weight_type), name)
            result_of(inspected.node)
        except ValueError as error:
            produced.refused[f"{name}_cal.fits"] = str(error)
            continue
        usable[name] = cal
    return usable


def _path(job: WholeRun, file: File) -> Path | None:
    try:
        return job.path_of(file)
    except AttributeError:  # an output that may be missing
        return None


def _stored(file: Many) -> Mapping[str, Any]:
    source = file.source
    return source if isinstance(source, dict) else result_of(source.node).files[source.output]
