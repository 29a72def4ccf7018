"""Calibration of all exposures of a survey, each from its own level to surface brightness."""

from collections.abc import Iterator

from cosmosaic.calibrate.steps import CalibratedRate, calibrate
from cosmosaic.exposures.associations import make_associations
from cosmosaic.exposures.band import Band
from cosmosaic.exposures.files import Cal
from cosmosaic.exposures.search import FoundFrames
from cosmosaic.records import Frame
from tasks.find import resolve_references
from tasks.runtime.run import Run


def calibrated_bands(found: FoundFrames, run: Run) -> Iterator[Band]:
    """Calibrate every frame that needs it, and yield each filter as soon as its own frames are done.

    Failed frames are missing, and recorded in the ledger; a filter without any exposure is left out.
    """
    frames = {frame.name: frame for frame in found.frames}
    associations = make_associations(found.frames, run.survey.name)
    waiting = [frames[name] for each in associations for name in each.members if frames[name].level != "cal"]
    calibrated = _calibrated(tuple(waiting), run) if waiting else {}
    for association in associations:
        members = {name: frames[name] for name in association.members}
        made = run.results({name: calibrated[name] for name in members if name in calibrated})
        cals = {name: Cal(frame.object) for name, frame in members.items() if frame.level == "cal"}
        cals |= {name: CalibratedRate.of(result).cal for name, result in made.items()}
        if cals:
            names = tuple(name for name in association.members if name in cals)
            yield Band(association.model_copy(update={"members": names}), members, {name: cals[name] for name in names})


def _calibrated(waiting: tuple[Frame, ...], run: Run) -> dict[str, CalibratedRate]:
    references = resolve_references(waiting, run.work)
    for uri, reason in references.missing.items():
        run.fail(f"References: {uri.rsplit('/', 1)[-1]}", reason)
    ready = [frame for frame in waiting if frame.object.uri in references.found]
    return {frame.name: calibrate(frame, references.found[frame.object.uri], run) for frame in ready}
