"""Pixels that no detector can give are flagged and counted; stars, and deep exposures, are not."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from jwst import datamodels
from real import real

from cosmosaic.cells.binning import usable_pixels
from cosmosaic.drizzle.exposure import ExposureError, light_of, read_exposure

SPOT = (slice(40, 42), slice(60, 63))
SPOT_PIXELS = 6


@pytest.fixture(scope="module")
def cal() -> Path:
    return real("cal/*_cal.fits")


def changed(cal: Path, folder: Path, **values: object) -> Path:
    """The exposure with other values in some pixels; a function of a plane changes all of it."""
    path = folder / cal.name
    with fits.open(cal, memmap=False) as hdus:
        for name, value in values.items():
            if callable(value):
                hdus[name].data[:] = value(hdus[name].data)
            else:
                hdus[name].data[SPOT] = value
        hdus.writeto(path)
    return path


@pytest.mark.parametrize(
    ("plane", "value"),
    [
        ("SCI", np.inf), ("SCI", -np.inf), ("SCI", -1e30), ("SCI", 1e30), ("SCI", -1e3),
        ("ERR", np.inf), ("ERR", 0.0), ("ERR", -0.1), ("ERR", 1e-10), ("ERR", 1e30),
        ("VAR_RNOISE", 1e-20), ("VAR_RNOISE", 0.0), ("VAR_RNOISE", -1.0), ("VAR_RNOISE", np.inf),
        ("VAR_POISSON", -1.0), ("VAR_POISSON", 1e30), ("VAR_FLAT", -1e-6), ("VAR_FLAT", np.inf),
    ],
)  # fmt: skip
def test_what_no_detector_can_give_is_flagged_and_counted(cal: Path, tmp_path: Path, plane: str, value: float) -> None:
    exposure = read_exposure(changed(cal, tmp_path, **{plane: value}))
    assert exposure.implausible == SPOT_PIXELS
    assert (exposure.dq[SPOT] & 1).all()
    assert np.isnan(exposure.sci[SPOT]).all()
    weight = light_of(exposure, "ivm")[-1]
    assert not weight[SPOT].any()
    assert weight.max() < 2 * np.median(weight)


def test_a_real_exposure_has_none(cal: Path) -> None:
    assert read_exposure(cal).implausible == 0


def test_a_saturated_star_a_deep_exposure_and_faint_light_beside_bright_are_plausible(
    cal: Path, tmp_path: Path
) -> None:
    # A star as bright as 65535 DN in one frame, in units of this header.
    brightest = 65535 / 10.74 * 0.39
    assert read_exposure(changed(cal, tmp_path, SCI=brightest)).implausible == 0
    (tmp_path / "deep").mkdir()
    deep = changed(cal, tmp_path / "deep", VAR_RNOISE=lambda plane: plane * 1e-6, ERR=lambda plane: plane * 1e-3)
    assert read_exposure(deep).implausible == 0
    (tmp_path / "nebula").mkdir()

    def bright(plane: np.ndarray) -> np.ndarray:
        return plane + np.where(np.arange(100) < 95, np.float32(500), np.float32(0))

    # Most of the detector saturates after two of twenty groups, the rest does not.
    def shortened(plane: np.ndarray) -> np.ndarray:
        return plane * np.where(np.arange(100) < 95, np.float32(1330), np.float32(1))

    nebula = changed(
        cal, tmp_path / "nebula", SCI=bright, VAR_RNOISE=shortened, ERR=lambda plane: np.sqrt(shortened(plane**2))
    )
    assert read_exposure(nebula).implausible == 0


def test_pixels_that_the_file_flags_are_not_counted(cal: Path, tmp_path: Path) -> None:
    assert read_exposure(changed(cal, tmp_path, SCI=-1e30, DQ=1)).implausible == 0


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        ({"DQ": lambda plane: plane | 1}, "no usable pixel"),
        ({"SCI": lambda plane: plane * np.nan}, "no usable pixel"),
        ({"ERR": lambda plane: plane * 0}, "no usable pixel"),
        ({"SCI": lambda plane: plane * 0 + 2}, "are 2, without sky and noise"),
    ],
)
def test_an_exposure_of_which_nothing_is_left_is_refused_by_name(
    cal: Path, tmp_path: Path, planes: dict[str, object], words: str
) -> None:
    path = changed(cal, tmp_path, **planes)
    with pytest.raises(ExposureError, match=f"{path}.*{words}"):
        read_exposure(path)


def test_what_no_detector_can_give_is_no_sky_either(cal: Path, tmp_path: Path) -> None:
    with datamodels.open(changed(cal, tmp_path, SCI=-1e30)) as model:
        usable = usable_pixels(model)
    assert not usable[SPOT].any()
    assert usable.sum() > 9000
