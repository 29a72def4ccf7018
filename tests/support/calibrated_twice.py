"""An exposure that is calibrated here and by the jwst package's own pipelines, in a child process."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from cosmosaic.survey import ExposureSettings, SimulationSettings


def different_cards(settings: SimulationSettings, folder: Path) -> dict[str, dict[str, tuple[object, object]]]:
    """Cards that differ, ours and jwst's, by extension and keyword; None where there is none.

    Keyword ``pixels`` has the numbers of finite pixels where images differ.
    """
    from jwst.pipeline import Detector1Pipeline, Image2Pipeline

    from cosmosaic.calibrate.stages import _stage1_parameters, calibrate_ramp
    from cosmosaic.simulate.plan import plan_exposures
    from cosmosaic.simulate.survey import simulate_exposure, survey_scene

    (planned, *_) = plan_exposures(settings)
    raw, _ = simulate_exposure(planned, survey_scene(settings, [planned]), settings, folder)
    asked = ExposureSettings(flicker_noise="none")
    ours, theirs = folder / "ours", folder / "theirs"
    ours.mkdir()
    theirs.mkdir()
    calibrate_ramp(raw, None, asked, planned.detector, ours)
    rate = Detector1Pipeline.call(str(raw), steps=_stage1_parameters(asked, None))
    rate.save(str(theirs / "rate.fits"))
    steps = {"resample": {"skip": True}, "bkg_subtract": {"skip": True}}
    Image2Pipeline.call(str(theirs / "rate.fits"), steps=steps)[0].save(str(theirs / "cal.fits"))
    (made,) = ours.glob("*_cal.fits")
    with fits.open(made) as mine, fits.open(theirs / "cal.fits") as others:
        assert [hdu.name for hdu in mine] == [hdu.name for hdu in others]
        return {
            ours.name: _cards(ours.header, jwsts.header) | _pixels(ours, jwsts)
            for ours, jwsts in zip(mine, others, strict=True)
        }


def _cards(mine: fits.Header, others: fits.Header) -> dict[str, tuple[object, object]]:
    keywords = {*mine, *others} - {"COMMENT", "HISTORY", ""}
    return {key: (mine.get(key), others.get(key)) for key in sorted(keywords) if mine.get(key) != others.get(key)}


def _pixels(mine, others) -> dict[str, tuple[object, object]]:
    if not mine.is_image or mine.data is None or np.array_equal(mine.data, others.data, equal_nan=True):
        return {}
    return {"pixels": (int(np.isfinite(mine.data).sum()), int(np.isfinite(others.data).sum()))}
