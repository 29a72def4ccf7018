"""A real exposure that is damaged at random is refused by name, or read and published with finite pixels."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from real import real
from support.damage import damaged

from cosmosaic.drizzle.exposure import ExposureError, light_of, read_exposure, write_flagged
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.headers import RefusalError
from cosmosaic.survey import SkySettings


@pytest.fixture(scope="module")
def cal() -> Path:
    return real("cal/*_cal.fits")


def accepted(path: Path) -> bool:
    """Whether an exposure is taken; where it is, its light is finite and its published copy can be read."""
    try:
        describe_exposure(str(path))
        exposure = read_exposure(path, 0.1)
    except (RefusalError, ExposureError) as error:
        if path.name not in str(error):
            raise
        return False
    light = light_of(exposure, "ivm")
    used = light[-1] > 0
    assert used.any()
    assert all(np.isfinite(plane[used]).all() for plane in light)
    target = path.with_name(path.name.replace("_cal", "_crf"))
    write_flagged(path, exposure, 0.1, SkySettings(), target, "COMPLETE")
    with fits.open(target) as hdus:
        assert (np.isfinite(hdus["SCI"].data) <= ((hdus["DQ"].data & 1) == 0)).all()
        assert not np.isinf(hdus["SCI"].data).any()
    return True


@pytest.mark.slow
def test_damage_is_told_by_name_or_harmless(cal: Path, tmp_path: Path) -> None:
    path, taken = tmp_path / cal.name, []
    for seed in range(60):
        path.write_bytes(damaged(cal, seed))
        taken.append(accepted(path))
    assert 10 < sum(taken) < 50
