"""All exposures of a survey, each from the level it enters at to surface brightness."""

from prefect.futures import PrefectFuture

from cosmosaic import store
from cosmosaic.frames import FoundFrames
from cosmosaic.records import Frame, Reference, StoredObject
from tasks.exposures import calibrate_ramp, calibrate_rate
from tasks.frames import resolve_references
from tasks.run import Run


def calibrate_exposures(found: FoundFrames, run: Run) -> dict[str, StoredObject]:
    """Calibrate every frame that needs it.

    Returns
    -------
    dict
        The ``cal`` file of each exposure, by the frame's name; what failed is missing and in the ledger.
    """
    done = {frame.name: frame.object for frame in found.frames if frame.level == "cal"}
    waiting = [frame for frame in found.frames if frame.level != "cal"]
    if not waiting:
        return done
    references = resolve_references(tuple(waiting), run.work)
    for uri, reason in references.missing.items():
        run.fail(f"References: {uri.rsplit('/', 1)[-1]}", reason)
    ready = [frame for frame in waiting if frame.object.uri in references.found]
    futures = {frame.name: _submit(frame, references.found[frame.object.uri], run) for frame in ready}
    calibrated = run.results(futures)
    return done | {name: result.objects[0] for name, result in calibrated.items()}


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
