"""The steps that make a synthetic survey: its reference files, its truth, and one frame."""

from pathlib import Path

from astropy.table import Table

from cosmosaic.records import Made
from cosmosaic.simulate.plan import PlannedFrame, plan_frames
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.simulate.survey import simulate_frame, survey_scene
from cosmosaic.simulate.truth import write_survey_truth
from cosmosaic.survey import SimulationSettings


def make_references(paths: list[Path], settings: SimulationSettings, folder: Path) -> Made:
    """Make the CRDS cache of a synthetic survey under ``crds/``."""
    write_crds_cache(settings, folder / "crds")
    return Made(sorted(path for path in folder.rglob("*") if path.is_file()))


def make_truth(paths: list[Path], settings: SimulationSettings, folder: Path) -> Made:
    """Write the survey's sources and what its frames hide under ``truth/``.

    Parameters
    ----------
    paths
        The user's catalogue and image, in this order, where the settings name them.
    settings
        The survey.
    folder
        Where the tables go.
    """
    write_survey_truth(_scene(paths, settings), plan_frames(settings), settings, folder / "truth")
    return Made(sorted((folder / "truth").iterdir()))


def make_frame(paths: list[Path], settings: SimulationSettings, frame: PlannedFrame, folder: Path) -> Made:
    """Make one frame under ``raw/`` and its truth under ``truth/``; parameters as for `make_truth`."""
    image = paths[-1] if settings.image else None
    return Made(list(simulate_frame(frame, _scene(paths, settings), settings, folder, image)))


def _scene(paths: list[Path], settings: SimulationSettings) -> Table:
    return survey_scene(settings, plan_frames(settings), paths[0] if settings.catalog else None)
