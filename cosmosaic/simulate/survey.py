"""A whole synthetic survey: reference files, exposures and truth."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from astropy.table import Table

from cosmosaic.simulate.calibrated import write_calibrated
from cosmosaic.simulate.persistence import persistence
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.ramps import write_ramp
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.simulate.render import sky_level, surface_brightness
from cosmosaic.simulate.scene import draw_scene, read_scene
from cosmosaic.simulate.truth import write_exposure_truth, write_survey_truth
from cosmosaic.steps.result import Made
from cosmosaic.survey import SimulationSettings

_WRITERS = {"uncal": write_ramp, "cal": write_calibrated}


def simulate_survey(
    settings: SimulationSettings, folder: Path, catalog: Path | None = None, image: Path | None = None
) -> list[Path]:
    """Make a synthetic survey, one exposure after another.

    Parameters
    ----------
    settings
        The settings; equal settings make equal files, byte for byte.
    folder
        Gets ``raw/`` (exposures), ``truth/`` and ``crds/``.
    catalog, image
        Local copies of ``settings.catalog`` and ``settings.image``.

    Returns
    -------
    list of Path
        The exposures.
    """
    exposures = plan_exposures(settings)
    scene = survey_scene(settings, exposures, catalog)
    write_crds_cache(settings, folder / "crds")
    write_survey_truth(scene, exposures, settings, folder / "truth")
    return [simulate_exposure(exposure, scene, settings, folder, image)[0] for exposure in exposures]


def survey_scene(
    settings: SimulationSettings, exposures: Sequence[PlannedExposure], catalog: Path | None = None
) -> Table:
    """The sources of a survey: from a catalogue, or drawn.

    Raises
    ------
    ValueError
        The settings name a catalogue without a local copy, or it cannot be used.
    """
    if catalog is not None:
        return read_scene(catalog, sorted({exposure.band for exposure in exposures}))
    if settings.catalog is not None:
        raise ValueError(f"simulation.catalog {settings.catalog} needs a local copy; pass it as catalog")
    return draw_scene(settings, exposures)


def simulate_exposure(
    exposure: PlannedExposure, scene: Table, settings: SimulationSettings, folder: Path, image: Path | None = None
) -> tuple[Path, Path]:
    """Make one exposure of a synthetic survey and its truth.

    Parameters
    ----------
    exposure
        The planned exposure.
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
        The exposure and its truth.

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
    sky = surface_brightness(exposure, scene, sky_level(exposure.band, settings.sky_mjy_sr), image)
    left = persistence(exposure, scene, settings, image) if settings.persistence_dn_s else None
    path, truth_path = raw / f"{exposure.name}_{settings.level}.fits", truth / f"{exposure.name}_truth.fits"
    added = _WRITERS[settings.level](exposure, sky if left is None else sky + left, settings, path)
    write_exposure_truth(replace(added, persistence_mjy_sr=left), truth_path)
    return path, truth_path


def make_references(settings: SimulationSettings, folder: Path) -> Made:
    """Make the CRDS cache of a synthetic survey under ``crds/``."""
    write_crds_cache(settings, folder / "crds")
    return Made(files=_by_place(sorted(path for path in folder.rglob("*") if path.is_file()), folder))


def make_truth(settings: SimulationSettings, folder: Path, catalog: Path | None = None) -> Made:
    """Write the survey's sources and the true properties of its exposures under ``truth/``.

    Parameters
    ----------
    settings
        The survey.
    folder
        Gets the tables.
    catalog
        The user's catalogue, if the settings name one.
    """
    exposures = plan_exposures(settings)
    write_survey_truth(survey_scene(settings, exposures, catalog), exposures, settings, folder / "truth")
    return Made(files=_by_place(sorted((folder / "truth").iterdir()), folder))


def make_exposure(
    exposure: PlannedExposure,
    settings: SimulationSettings,
    folder: Path,
    catalog: Path | None = None,
    image: Path | None = None,
) -> Made:
    """Make one exposure under ``raw/`` and its truth under ``truth/``; parameters as for `simulate_exposure`."""
    scene = survey_scene(settings, plan_exposures(settings), catalog)
    return Made(files=_by_place(simulate_exposure(exposure, scene, settings, folder, image), folder))


def _by_place(paths: Iterable[Path], folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in paths}
