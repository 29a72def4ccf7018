"""A simulated survey of calibrated exposures into which sources are injected, without an orchestrator."""

from dataclasses import dataclass
from pathlib import Path

from astropy.table import Table

from cosmosaic.astrometry.steps import align_bands
from cosmosaic.catalog.files import read_catalog
from cosmosaic.catalog.steps import number_catalogs, submit_catalogs, submit_images
from cosmosaic.exposures.associations import make_associations
from cosmosaic.exposures.band import Band
from cosmosaic.exposures.files import Cal
from cosmosaic.exposures.search import find_exposures
from cosmosaic.exposures.windows import survey_windows
from cosmosaic.injection.steps import inject
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.scene import draw_scene
from cosmosaic.simulate.survey import simulate_exposure
from cosmosaic.survey import FilterPair, InjectionSettings, SimulationSettings, Survey
from flows.mosaic import combine
from support.whole_run import WholeRun


@dataclass(frozen=True)
class InjectedSurvey:
    """A survey, its truth, and what the injection made."""

    scene: Table
    catalog: Table
    """The survey's own."""
    injected: Table
    verdicts: dict[str, Table]
    """By filter, as the tables of completeness."""
    completeness: dict[str, Table]
    corrections: Table
    """For each source of the catalogue."""


SIMULATION = SimulationSettings(
    level="cal",
    detectors=("NRCB1", "NRCBLONG"),
    filter_pairs=(FilterPair(short="F150W", long="F444W"),),
    subarray="SUB640",
    aberration=0.0,
    pointing_error_mas=0.0,
    roll_error_arcsec=0.0,
    placement_error_mas=0.0,
    filter_offset_mas=0.0,
    proper_motion_mas_yr=0.0,
    stars_per_arcmin2=80.0,
)


def inject_into_simulation(
    simulation: SimulationSettings, injection: InjectionSettings, folder: Path
) -> InjectedSurvey:
    """Simulate a survey, and inject sources into it."""
    exposures = plan_exposures(simulation)
    scene = draw_scene(simulation, exposures)
    for exposure in exposures:
        simulate_exposure(exposure, scene, simulation, folder)
    survey = Survey(name="field", raw=str(folder / "raw"), store=str(folder / "store"), injection=injection)
    job = WholeRun(survey, folder / "work")
    found = find_exposures(survey.url("raw")).exposures
    windows = survey_windows(found, survey, ())
    bands = []
    for association in make_associations(found, survey.name):
        members = {exposure.name: exposure for exposure in found if exposure.name in association.members}
        bands.append(Band(association, members, {name: Cal(exposure.object) for name, exposure in members.items()}))
    measured = {
        aligned.band.name: combine(aligned, windows[aligned.band.name], None, job).measured
        for aligned in align_bands(bands, (), job)
    }
    catalogs = submit_catalogs(measured, submit_images(measured, job), job)
    numbered = number_catalogs(catalogs, tuple(measured), job).windows
    made = inject(measured, catalogs, numbered, job.worker_gb, job)

    def table(file) -> Table:
        return Table.read(job.path_of(file), format="ascii.ecsv")

    return InjectedSurvey(
        scene=scene,
        catalog=read_catalog(job.path_of(catalogs["full"].catalog)),
        injected=table(made.matched.table),
        verdicts={band: table(each.verdict) for band, each in made.verdicts.items()},
        completeness={band: table(each.completeness) for band, each in made.verdicts.items()},
        corrections=table(made.corrections["full"].table),
    )
