"""Calibration of all exposures of a survey, each from its own level to surface brightness."""

import random
from collections.abc import Iterator

from cosmosaic.artefacts.steps import flag_persistence, mask_regions
from cosmosaic.calibrate.steps import calibrate, clean_calibrated, number_to_verify, verify
from cosmosaic.drizzle.steps import InspectExposure
from cosmosaic.exposures.associations import make_associations
from cosmosaic.exposures.band import Band
from cosmosaic.exposures.files import Cal
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.records import Exposure
from tasks.find import resolve_references
from tasks.runtime.run import Run


def calibrated_bands(found: FoundExposures, run: Run) -> Iterator[Band]:
    """Calibrate every exposure that needs it, and yield each filter as soon as its own exposures are done.

    Exposures that failed or cannot be combined are left out, and recorded in the ledger; so is a filter without any
    exposure.
    """
    exposures = {exposure.name: exposure for exposure in found.exposures}
    associations = make_associations(found.exposures, run.survey.name)
    cals = {name: clean_calibrated(exposure, run) for name, exposure in exposures.items() if exposure.level == "cal"}
    waiting = [exposures[name] for each in associations for name in each.members if name not in cals]
    cals |= _calibrated(tuple(waiting), run) if waiting else {}
    flagged = flag_persistence(exposures, cals, run)
    aside = len(found.unasked) + len(run.excluded)
    if flagged and aside:
        run.note(
            f"warning exposures.persistence: {aside} exposures are excluded or of other filters; what they left stays"
        )
    cals = mask_regions(exposures, cals | {name: each.cal for name, each in flagged.items()}, run)
    weight = run.survey.drizzle.weight_type
    inspected = {
        name: run.submit(InspectExposure(exposure=cal, weight_type=weight), name) for name, cal in cals.items()
    }
    for association in associations:
        members = {name: exposures[name] for name in association.members}
        usable = run.results({name: inspected[name] for name in members if name in inspected})
        stored = {name: run.stored(cals[name]) for name in association.members if name in usable}
        if tables := [flagged[name].table for name in stored if name in flagged]:
            run.publish(f"{association.band} persistence", tables)
        if stored:
            yield Band(association.model_copy(update={"members": tuple(stored)}), members, stored)


def _calibrated(waiting: tuple[Exposure, ...], run: Run) -> dict[str, Cal]:
    references = resolve_references(waiting, run.work)
    for uri, reason in references.missing.items():
        run.fail(f"References: {uri.rsplit('/', 1)[-1]}", reason)
    ready = [exposure for exposure in waiting if exposure.object.uri in references.found]
    calibrated = {each.name: calibrate(each, references.found[each.object.uri], run) for each in ready}
    for exposure in ready:
        if rate := calibrated[exposure.name].rate:
            run.publish(f"{exposure.name} count rate", [rate], {"filter": exposure.band})
    ramps = {name: each.step for name, each in calibrated.items() if each.step}
    for name in random.sample(sorted(ramps), min(number_to_verify(run.survey.exposures), len(ramps))):
        run.publish(f"{name} verification", [verify(name, ramps[name], run)])
    return {name: each.cal for name, each in calibrated.items()}
