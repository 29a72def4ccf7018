"""The mosaic of calibrated exposures on this machine, by the steps of a survey without its orchestrator."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from cosmosaic.cells.steps import lattice_of
from cosmosaic.exposures.associations import make_associations
from cosmosaic.exposures.band import Band
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.files import Cal
from cosmosaic.exposures.patterns import write_exposure_sky
from cosmosaic.mosaic.engines import BandInput, TiledEngine
from cosmosaic.records import MosaicGrid, StoredObject, Windows
from cosmosaic.sky.steps import BandSky, ExposureSkyFile, MeasuredSky, SkyTable
from cosmosaic.steps.files import Many
from cosmosaic.steps.local import LocalJob
from cosmosaic.survey import Survey

WORKER_GB = 8.0
"""Memory of one process, if the settings give no side of tiles."""


def make_mosaic(
    paths: Sequence[Path],
    levels: Mapping[str, float],
    window: MosaicGrid,
    survey: Survey,
    folder: Path,
    executor: Executor,
) -> tuple[Path, dict[str, Path]]:
    """Make one mosaic of the exposures of one filter.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter.
    levels
        Sky in MJy/sr by the exposure's name; 0 for exposures that are not named.
    window
        The mosaic.
    survey
        Sky, outliers, drizzle, and the tiles' side.
    folder
        Gets the files of each step.
    executor
        Executor of the steps.

    Returns
    -------
    mosaic
        The ``_i2d`` file. ERR is scaled by the pixel scale of the first exposure by name.
    crfs
        The ``_crf`` file of each exposure by name.
    """
    band, job = _band(paths, survey), LocalJob(survey, folder, executor)
    given = BandInput(band, band.cals, _sky(band, levels, folder), Windows(window), lattice_of(band, window))
    engine = TiledEngine(given, WORKER_GB, None, job)
    flagged, mosaic = engine.flag_outliers(), engine.assemble(window, None)
    return job.path_of(mosaic.mosaic), {name: job.path_of(crf) for name, crf in flagged.crfs.items()}


def _band(paths: Sequence[Path], survey: Survey) -> Band:
    exposures = {exposure.name: exposure for exposure in map(describe_exposure, map(str, sorted(paths)))}
    (association,) = make_associations(exposures.values(), survey.name)
    return Band(association, exposures, {name: Cal(exposures[name].object) for name in association.members})


def _sky(band: Band, levels: Mapping[str, float], folder: Path) -> BandSky:
    """Write the levels in the format of the steps."""
    if not levels:
        return BandSky()
    skies = folder / "levels"
    skies.mkdir(parents=True)
    files = {
        name: write_exposure_sky(float(levels.get(name, 0.0)), "", skies / f"{name}_sky.json") for name in band.members
    }
    stored = {name: StoredObject(uri=str(path), sha256="", size=path.stat().st_size) for name, path in files.items()}
    return BandSky(MeasuredSky(SkyTable(next(iter(stored.values()))), Many(ExposureSkyFile, stored)))
