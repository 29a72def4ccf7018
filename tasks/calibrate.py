"""All exposures of a survey, each from the level it enters at to surface brightness."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prefect.futures import PrefectFuture

from cosmosaic.exposures.associations import make_associations
from cosmosaic.exposures.search import FoundFrames
from cosmosaic.records import Association, Frame, Reference, StoredObject
from cosmosaic.storage import store
from tasks.exposures import calibrate_ramp, calibrate_rate
from tasks.frames import resolve_references
from tasks.runtime.run import Run


@dataclass(frozen=True)
class CalibratedBand:
    """The exposures of one filter that could be calibrated."""

    association: Association
    frames: Mapping[str, Frame]
    """All frames of the filter by name, those that failed too."""
    cals: Mapping[str, StoredObject]
    """The ``cal`` file of each member of the association."""


def calibrated_bands(found: FoundFrames, run: Run) -> Iterator[CalibratedBand]:
    """Calibrate every frame that needs it, and give each filter as soon as its own frames are done.

    What failed is missing and in the ledger; a filter without any exposure is left out.
    """
    frames = {frame.name: frame for frame in found.frames}
    done = {name: frame.object for name, frame in frames.items() if frame.level == "cal"}
    associations = make_associations(found.frames, run.survey.name)
    waiting = [frames[name] for each in associations for name in each.members if name not in done]
    futures = _submit_all(tuple(waiting), run) if waiting else {}
    for association in associations:
        members = {name: frames[name] for name in association.members}
        results = run.results({name: futures[name] for name in members if name in futures})
        made = {name: result.objects[0] for name, result in results.items()}
        cals = {name: stored for name, stored in (done | made).items() if name in members}
        if cals:
            names = tuple(name for name in association.members if name in cals)
            yield CalibratedBand(association.model_copy(update={"members": names}), members, cals)


def _submit_all(waiting: tuple[Frame, ...], run: Run) -> dict[str, PrefectFuture]:
    references = resolve_references(waiting, run.work)
    for uri, reason in references.missing.items():
        run.fail(f"References: {uri.rsplit('/', 1)[-1]}", reason)
    ready = [frame for frame in waiting if frame.object.uri in references.found]
    return {frame.name: _submit(frame, references.found[frame.object.uri], run) for frame in ready}


def _submit(frame: Frame, references: tuple[Reference, ...], run: Run) -> PrefectFuture:
    flicker_noise = run.survey.exposures.flicker_noise
    if frame.level == "rate":
        return run.submit(
            calibrate_rate, frame.name, rate=frame.object, references=references, flicker_noise=flicker_noise
        )
    rate = run.submit(
        calibrate_ramp,
        frame.name,
        frame=frame,
        references=references,
        gain_map=_gain_map(frame, run),
        settings=run.survey.exposures,
    )
    return run.submit(calibrate_rate, frame.name, rate=rate, references=references, flicker_noise=flicker_noise)


def _gain_map(frame: Frame, run: Run) -> StoredObject | None:
    uri = run.survey.references.gain_maps.get(frame.detector)
    return store.checksum(uri, run.work.checksums) if uri else None
