"""A whole synthetic survey: reference files, frames and truth."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from astropy.table import Table

from cosmosaic.simulate.calibrated import write_calibrated
from cosmosaic.simulate.plan import PlannedFrame, plan_frames
from cosmosaic.simulate.ramps import write_ramp
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.simulate.render import sky_level, surface_brightness
from cosmosaic.simulate.scene import draw_scene, read_scene
from cosmosaic.simulate.truth import write_frame_truth, write_survey_truth
from cosmosaic.steps.result import Made
from cosmosaic.survey import SimulationSettings

_WRITERS = {"uncal": write_ramp, "cal": write_calibrated}


def simulate_survey(
    settings: SimulationSettings, folder: Path, catalog: Path | None = None, image: Path | None = None
) -> list[Path]:
    """Make a synthetic survey, one frame after another.

    Parameters
    ----------
    settings
        The settings; equal settings make equal files, byte for byte.
    folder
        Gets ``raw/`` (frames), ``truth/`` and ``crds/``.
    catalog, image
        Local copies of ``settings.catalog`` and ``settings.image``.

    Returns
    -------
    list of Path
        The frames.
    """
    frames = plan_frames(settings)
    scene = survey_scene(settings, frames, catalog)
    write_crds_cache(settings, folder / "crds")
    write_survey_truth(scene, frames, settings, folder / "truth")
    return [simulate_frame(frame, scene, settings, folder, image)[0] for frame in frames]


def survey_scene(settings: SimulationSettings, frames: Sequence[PlannedFrame], catalog: Path | None = None) -> Table:
    """The sources of a survey: from a catalogue, or drawn.

    Raises
    ------
    ValueError
        The settings name a catalogue without a local copy, or it cannot be used.
    """
    if catalog is not None:
        return read_scene(catalog, sorted({frame.band for frame in frames}))
    if settings.catalog is not None:
        raise ValueError(f"simulation.catalog {settings.catalog} needs a local copy; pass it as catalog")
    return draw_scene(settings, frames)


def simulate_frame(
    frame: PlannedFrame, scene: Table, settings: SimulationSettings, folder: Path, image: Path | None = None
) -> tuple[Path, Path]:
    """Make one frame of a synthetic survey and its truth.

    Parameters
    ----------
    frame
        What is exposed.
    scene
        Sources; a table with the columns of `cosmosaic.simulate.scene`.
    settings
        The survey.
    folder
        Gets ``raw/<name>_<level>.fits`` and ``truth/<name>_truth.fits``.
    image
        Local copy of ``settings.image``.

    Returns
    -------
    tuple of Path
        The frame and its truth.

    Raises
    ------
    ValueError
        The settings name an image without a local copy, or it cannot be used.
    """
    if settings.image is not None and image is None:
        raise ValueError(f"simulation.image {settings.image} needs a local copy; pass it as image")
    raw, truth = folder / "raw", folder / "truth"
    for part in (raw, truth):
        part.mkdir(parents=True, exist_ok=True)
    sky = surface_brightness(frame, scene, sky_level(frame.band, settings.sky_mjy_sr), image)
    path, truth_path = raw / f"{frame.name}_{settings.level}.fits", truth / f"{frame.name}_truth.fits"
    write_frame_truth(_WRITERS[settings.level](frame, sky, settings, path), truth_path)
    return path, truth_path


def make_references(settings: SimulationSettings, folder: Path) -> Made:
    """Make the CRDS cache of a synthetic survey under ``crds/``."""
    write_crds_cache(settings, folder / "crds")
    return Made(files=_by_place(sorted(path for path in folder.rglob("*") if path.is_file()), folder))


def make_truth(settings: SimulationSettings, folder: Path, catalog: Path | None = None) -> Made:
    """Write the survey's sources and the true properties of its frames under ``truth/``.

    Parameters
    ----------
    settings
        The survey.
    folder
        Gets the tables.
    catalog
        The user's catalogue, if the settings name one.
    """
    frames = plan_frames(settings)
    write_survey_truth(survey_scene(settings, frames, catalog), frames, settings, folder / "truth")
    return Made(files=_by_place(sorted((folder / "truth").iterdir()), folder))


def make_frame(
    frame: PlannedFrame,
    settings: SimulationSettings,
    folder: Path,
    catalog: Path | None = None,
    image: Path | None = None,
) -> Made:
    """Make one frame under ``raw/`` and its truth under ``truth/``; parameters as for `simulate_frame`."""
    scene = survey_scene(settings, plan_frames(settings), catalog)
    return Made(files=_by_place(simulate_frame(frame, scene, settings, folder, image), folder))


def _by_place(paths: Iterable[Path], folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in paths}
