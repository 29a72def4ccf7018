"""Exposures that are supplied calibrated lose their 1/f noise, once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from astropy.io import fits
from jwst import datamodels
from numpy.typing import NDArray
from support.cleaned import clean_into

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.calibrate.stages import clean_calibrated as clean
from cosmosaic.calibrate.steps import CleanCalibrated, clean_calibrated
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.processes import workers
from cosmosaic.simulate.calibrated import write_calibrated
from cosmosaic.simulate.geometry import exposure_shape
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.references import write_crds_cache
from cosmosaic.steps.declaration import Outputs
from cosmosaic.survey import ExposureSettings, SimulationSettings, Survey

SETTINGS = SimulationSettings(subarray="SUB640", detectors=("NRCB1",), level="cal")
SKY_MJY_SR = 0.3


@dataclass
class Submissions:
    """A run that notes what is submitted."""

    survey: Survey
    steps: list[Any] = field(default_factory=list)

    def submit(self, step: Any, label: str) -> Outputs:
        self.steps.append(step)
        return step.outputs.promised(label)


@pytest.fixture(scope="module")
def supplied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    """A calibrated exposure with 1/f noise, and that noise."""
    exposure = plan_exposures(SETTINGS)[0]
    path = tmp_path_factory.mktemp("supplied") / f"{exposure.name}_cal.fits"
    sky = np.full(exposure_shape(exposure), SKY_MJY_SR, dtype=np.float32)
    return path, write_calibrated(exposure, sky, SETTINGS, path).flicker_mjy_sr


def rows(image: NDArray[np.float32], path: Path) -> NDArray[np.floating]:
    good = fits.getdata(path, "DQ") == 0
    return np.nanmean(np.where(good, image, np.nan)[8:-8, 8:-8], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("flicker_noise", ["fast", "jwst"])
def test_its_stripes_go(
    supplied: tuple[Path, NDArray[np.float32]], flicker_noise: Literal["fast", "jwst"], tmp_path: Path
) -> None:
    path, stripes = supplied
    write_crds_cache(SETTINGS, tmp_path / "crds")
    environment = {"CRDS_PATH": str(tmp_path / "crds"), "CRDS_CONTEXT": SIMULATED_CONTEXT, "CRDS_READONLY_CACHE": "1"}
    plan = workers.plan_workers(1, None, 600.0, None, environment)
    made = workers.run(plan, clean_into, path, flicker_noise, tmp_path).result
    left = rows(fits.getdata(made, "SCI") - fits.getdata(path, "SCI") + stripes, path)
    assert np.std(left) < 0.35 * np.std(rows(stripes, path))
    with datamodels.open(made) as model:
        assert model.meta.cal_step.clean_flicker_noise == "COMPLETE"


def test_it_is_cleaned_unless_it_was_or_nothing_is_asked_for(
    supplied: tuple[Path, NDArray[np.float32]], tmp_path: Path
) -> None:
    path, _ = supplied
    cleaned = clean(path, "fast", tmp_path).files["cal"]
    asked, nothing = Survey(raw="given"), Survey(raw="given", exposures=ExposureSettings(flicker_noise="none"))
    for given, survey, steps in ((path, asked, 1), (cleaned, asked, 0), (path, nothing, 0)):
        run, exposure = Submissions(survey), describe_exposure(str(given))
        cal = clean_calibrated(exposure, run)  # type: ignore[arg-type]
        assert [type(step) for step in run.steps] == [CleanCalibrated] * steps
        assert steps or cal.stored == exposure.object


def test_what_is_clean_is_left_as_it_is(supplied: tuple[Path, NDArray[np.float32]], tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    once.mkdir()
    twice.mkdir()
    first = clean(supplied[0], "fast", once).files["cal"]
    second = clean(first, "fast", twice).files["cal"]
    np.testing.assert_array_equal(fits.getdata(first, "SCI"), fits.getdata(second, "SCI"))
