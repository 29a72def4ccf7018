"""A survey of three small exposures of one filter, calibrated and combined by the real flow, in this process."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from prefect import Flow

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.survey import FilterPair, ReferenceSettings, SimulationSettings, Survey
from flows.mosaic import mosaic
from tasks.runtime.report import listening
from tasks.runtime.run import Ledger

BAND = "F444W"
SIMULATION = SimulationSettings(
    detectors=("NRCBLONG",), filter_pairs=(FilterPair(short="F150W", long=BAND),), subarray="SUB160", groups=3
)

LAPTOP_GB = 6.0
"""Memory for the child processes of a run: what a laptop with 8 GB has."""


@dataclass(frozen=True)
class Observed:
    """What became of the steps of one run of the flow."""

    state: str
    executed: set[str]
    cached: set[str]
    failed: dict[str, str]
    objects: dict[str, tuple[Path, ...]]
    """The files of each step, made or looked up."""


@dataclass
class SmallSurvey:
    """A survey with raw exposures of its own, which a test may change."""

    folder: Path
    crds: Path
    """Reference files, which surveys share: the processes that have read them then serve the next run, too."""
    settings: dict = field(default_factory=dict)

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def products(self) -> Path:
        return self.folder / "own" / "products"

    @property
    def cache(self) -> Path:
        return self.folder / "own" / "cache"

    @property
    def frames(self) -> list[Path]:
        return sorted(self.raw.glob("*_uncal.fits"))

    def survey(self, **changes) -> Survey:
        settings = self.settings | changes
        resources = {"memory_gb": LAPTOP_GB} | settings.pop("resources", {})
        references = {"crds_path": str(self.crds), "crds_context": SIMULATED_CONTEXT} | settings.pop("references", {})
        places = {"name": "small", "store": str(self.folder / "own"), "raw": str(self.raw)}
        return Survey(**places, references=ReferenceSettings(**references), resources=resources, **settings)

    def copy_references(self) -> None:
        """Give the survey reference files of its own, which a test may change."""
        self.crds = shutil.copytree(self.crds, self.folder / "crds")

    def settings_file(self) -> Path:
        """Write the settings of the survey; return the file."""
        file, scratch = self.folder / "small.toml", self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        file.write_text(
            f'name = "small"\nstore = "{self.folder}/own"\nraw = "{self.raw}"\n'
            f'[references]\ncrds_path = "{self.crds}"\ncrds_context = "{SIMULATED_CONTEXT}"\n'
            f'[resources]\nscratch = "{scratch}"\n'
        )
        return file

    def run(self, **changes) -> Observed:
        """Run the flow and tell which steps did their work."""
        return observe(self.survey(**changes))


def observe(survey: Survey, flow: Flow = mosaic) -> Observed:
    ledgers: list[Ledger] = []
    with listening(ledgers.append):
        state = flow(survey, return_state=True)
    if not ledgers:
        raise state.result(raise_on_failure=False)
    (ledger,) = ledgers
    return Observed(
        state=str(state.name),
        executed={record.label for record in ledger.executed},
        cached={record.label for record in ledger.cached},
        failed={record.label: record.error or "" for record in ledger.failed},
        objects={
            record.label: tuple(Path(stored.uri) for stored in record.result.objects)
            for record in ledger.records
            if record.result
        },
    )


def new_survey(simulated: Path, folder: Path) -> SmallSurvey:
    """Copy exposures as somebody else's data: without checksums beside them, as the reference files have none."""
    unmarked, crds = shutil.ignore_patterns(".*"), simulated / "unmarked" / "crds"
    shutil.copytree(simulated / "raw", folder / "raw", ignore=unmarked)
    if not crds.exists():
        shutil.copytree(simulated / "crds", crds, ignore=unmarked)
    return SmallSurvey(folder, crds)
