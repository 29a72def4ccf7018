"""Artefacts: persistence and the user's regions, which are flagged; wisps, measured per detector and subtracted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cosmosaic.artefacts.solution import WispSolution, read_wisps
from cosmosaic.exposures.band import Band, Exposures
from cosmosaic.exposures.exclusion import is_named
from cosmosaic.exposures.files import Cal
from cosmosaic.exposures.order import Earlier, earlier_exposures
from cosmosaic.nircam import WISP_DETECTORS
from cosmosaic.records import Exposure
from cosmosaic.solved import published
from cosmosaic.steps.declaration import Job, Outputs, Step, surviving
from cosmosaic.steps.files import File, Many
from cosmosaic.storage import store
from cosmosaic.survey import Survey


class WispTable(File, suffix="_wisp.ecsv", kind="wisp"):
    """Strength of the wisp in each exposure of a detector."""


class WispTemplate(File, suffix=".fits", kind="wisp"):
    """Shape of a detector's wisp, MJy/sr."""


class Wisp(File, suffix="_wisp.npz"):
    """The wisp of one exposure."""


@dataclass(frozen=True)
class MeasuredWisps(Outputs):
    """The wisps of one detector and filter."""

    table: WispTable
    template: WispTemplate | None
    """None if the template was not built from the survey's exposures."""
    wisps: Many[Wisp]
    """Of the exposures in which the wisp is significant."""


@dataclass(frozen=True, kw_only=True)
class MeasureWisps(Step[MeasuredWisps]):
    """Find the wisp of each exposure of one detector."""

    title = "Wisps"
    version = 6
    function = "cosmosaic.artefacts.corrections:measure_wisps"
    per = "filter"

    exposures: Mapping[str, Cal]
    template: WispTemplate | None
    solution: WispSolution
    stem: str

    @property
    def needed_gb(self) -> float:
        """Memory for the blocks of all exposures, four times."""
        return 0.7 + 0.0022 * len(self.exposures)

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether wisps are to be subtracted."""
        return bool(survey.sky.wisps)


@dataclass(frozen=True)
class Cleaned(Outputs):
    """An exposure without its wisp."""

    cal: Cal


@dataclass(frozen=True, kw_only=True)
class SubtractWisp(Step[Cleaned]):
    """Subtract the wisp of one exposure."""

    title = "Subtract wisp"
    version = 2
    function = "cosmosaic.artefacts.corrections:subtract_wisp"
    per = "exposure"

    exposure: Cal
    wisp: Wisp | None

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether wisps are to be subtracted."""
        return bool(survey.sky.wisps)


class RegionFile(File):
    """A ds9 region file of the user's."""


@dataclass(frozen=True)
class MaskedExposure(Outputs):
    """An exposure with flags in the user's regions."""

    cal: Cal


@dataclass(frozen=True, kw_only=True)
class MaskRegions(Step[MaskedExposure]):
    """Flag the pixels inside the user's regions as not to be used."""

    title = "Regions"
    version = 1
    function = "cosmosaic.artefacts.regions:mask_regions"
    per = "exposure"
    columns: ClassVar = {"region_pixels": "region_pixels"}

    exposure: Cal
    regions: tuple[RegionFile, ...]

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether the user has given regions."""
        return bool(survey.regions)


def mask_regions(exposures: Mapping[str, Exposure], cals: Exposures, job: Job) -> dict[str, Cal]:
    """Submit the flagging of the user's regions; return all calibrated exposures."""
    files = {pattern: RegionFile(store.checksum(uri, job.checksums)) for pattern, uri in job.survey.regions.items()}
    masked = dict(cals)
    for name, cal in cals.items():
        named = tuple(file for pattern, file in files.items() if is_named(exposures[name], pattern))
        if named:
            masked[name] = job.submit(MaskRegions(exposure=cal, regions=named), name).cal
    return masked


def subtract_wisps(band: Band, job: Job) -> tuple[Exposures, tuple[MeasuredWisps, ...]]:
    """Submit the correction of the detectors that have wisps; return all exposures, and the measured wisps."""
    if not job.survey.sky.wisps:
        return band.cals, ()
    cleaned: dict[str, Cal] = dict(band.cals)
    measured = []
    parts: dict[tuple[str, str], dict[str, Cal]] = {}
    for name, cal in band.cals.items():
        exposure = band.exposures[name]
        if exposure.detector in WISP_DETECTORS:
            parts.setdefault((exposure.detector, exposure.subarray), {})[name] = cal
    # However few they are: exposures without a significant wisp do not change once there are enough for a template.
    for (detector, subarray), exposures in sorted(parts.items()):
        part = detector if sum(one == detector for one, _ in parts) == 1 else f"{detector}_{subarray}"
        wisps = _measured(band, detector, part, exposures, job)
        measured.append(wisps)
        for name, cal in exposures.items():
            cleaned[name] = job.submit(SubtractWisp(exposure=cal, wisp=wisps.wisps.get(name)), name).cal
    return cleaned, tuple(measured)


def _measured(band: Band, detector: str, part: str, exposures: Exposures, job: Job) -> MeasuredWisps:
    stem = band.stem(f"{part.lower()}_wisp")
    digests = {name: cal.stored.sha256 for name, cal in exposures.items()}
    users = job.survey.sky.wisp_templates.get(f"{detector}_{band.name}")
    own = None if users or job.survey.resolve else _published_template(stem, digests, job)
    step = MeasureWisps(
        exposures=exposures,
        template=WispTemplate(store.checksum(users, job.checksums)) if users else own,
        solution=WispSolution(exposures=digests, kept=own is not None, missing=band.missing),
        stem=stem,
    )
    return job.submit(step, f"{band.name} {part.replace('_', ' ')}")


def _published_template(stem: str, exposures: Mapping[str, str], job: Job) -> WispTemplate | None:
    """Return the template that an earlier run published, if these exposures still use it."""
    solution = published(store.join(job.products, f"{stem}.ecsv"), read_wisps, job.note)
    uri = store.join(job.products, f"{stem}.fits")
    if solution is None or not solution.stays_for(exposures) or store.stat(uri) is None:
        return None
    return WispTemplate(store.checksum(uri, job.checksums))


PERSISTENCE_WINDOW_S = 7200.0
"""Time after an exposure in which it is looked for in others: what a full pixel releases is then below the noise of an
exposure of ten minutes."""


class BrightPixels(File, suffix="_bright.npz"):
    """The pixels that one exposure filled."""


@dataclass(frozen=True)
class ListedBright(Outputs):
    """The pixels that one exposure filled."""

    bright: BrightPixels


@dataclass(frozen=True, kw_only=True)
class ListBright(Step[ListedBright]):
    """List the pixels that an exposure filled, which persist in later ones."""

    title = "Bright pixels"
    version = 1
    function = "cosmosaic.artefacts.persistence:list_bright"
    per = "exposure"

    exposure: Cal

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether persistence is flagged."""
        return survey.exposures.persistence


class PersistenceTable(File, suffix="_persistence.ecsv", kind="persistence", folder="exposures"):
    """Earlier exposures of the detector, and the pixels flagged for each."""


@dataclass(frozen=True)
class FlaggedPersistence(Outputs):
    """An exposure with flags where earlier ones persist."""

    cal: Cal
    table: PersistenceTable


@dataclass(frozen=True, kw_only=True)
class FlagPersistence(Step[FlaggedPersistence]):
    """Flag the pixels of an exposure in which earlier ones of its detector persist."""

    title = "Persistence"
    version = 1
    function = "cosmosaic.artefacts.persistence:flag_persistence"
    per = "exposure"
    columns: ClassVar = {
        "persistence_pixels": "persistence_pixels",
        "persistence_exposures": "persistence_exposures",
        "persistence_unknown": "persistence_unknown",
    }

    exposure: Cal
    bright: Mapping[str, BrightPixels] = surviving()
    """Of the earlier exposures, and of itself: so there is one even if all others failed."""
    earlier: tuple[Earlier, ...]
    duration_s: float
    persistence_dn_s: float

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether persistence is flagged."""
        return survey.exposures.persistence


def flag_persistence(exposures: Mapping[str, Exposure], cals: Exposures, job: Job) -> dict[str, FlaggedPersistence]:
    """Submit the flagging of persistence; return the exposures that have earlier ones."""
    settings = job.survey.exposures
    if not settings.persistence:
        return {}
    before = earlier_exposures(exposures.values(), PERSISTENCE_WINDOW_S)
    for name in sorted(set(cals) - set(before)):
        job.note(f"warning {name}: no keyword gives its start (DATE-BEG), so persistence is neither flagged nor known")
    bright = {name: job.submit(ListBright(exposure=cal), name).bright for name, cal in cals.items() if name in before}
    return {
        name: job.submit(
            FlagPersistence(
                exposure=cals[name],
                bright={one: bright[one] for one in (name, *(each.name for each in earlier)) if one in bright},
                earlier=earlier,
                duration_s=exposures[name].exposure_time,
                persistence_dn_s=settings.persistence_dn_s,
            ),
            name,
        )
        for name, earlier in before.items()
        if earlier and name in cals
    }
