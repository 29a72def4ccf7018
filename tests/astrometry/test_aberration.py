"""Velocity aberration is corrected about a point that the detectors of an exposure share."""

from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from real import real
from stdatamodels.jwst import datamodels

from cosmosaic.astrometry.aberration import KEYWORDS, common_point, correct_aberration, share_aberration
from cosmosaic.exposures.footprints import region_corners
from cosmosaic.geometry.sphere import ARCSEC_PER_RADIAN, unit_vectors
from cosmosaic.simulate.calibrated import write_calibrated
from cosmosaic.simulate.geometry import pixel_to_sky, true_view
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.survey import SimulationSettings

STILL = {"pointing_error_mas": 0.0, "roll_error_arcsec": 0.0, "placement_error_mas": 0.0, "filter_offset_mas": 0.0}


def exposure(folder: Path, detector: str, aberration: float) -> tuple[PlannedExposure, Path]:
    settings = SimulationSettings(
        detectors=("NRCB1", "NRCB4", "NRCBLONG"),
        subarray="SUB160",
        dithers_arcsec=((0.0, 0.0),),
        aberration=aberration,
        flicker_noise=False,
        **STILL,
    )
    frame = next(frame for frame in plan_exposures(settings) if frame.detector == detector)
    path = folder / f"{frame.name}_cal.fits"
    write_calibrated(frame, np.full((160, 160), 0.25, dtype=np.float32), settings, path)
    return frame, path


def error_mas(path: Path, frame: PlannedExposure) -> float:
    """Largest distance of the corners of an exposure, by its WCS, from the truth."""
    x, y = np.array([2.0, 157.0, 157.0, 2.0]), np.array([2.0, 2.0, 157.0, 157.0])
    with datamodels.open(path) as model:
        by_wcs = unit_vectors(np.transpose(model.meta.wcs(x, y)))
    true = unit_vectors(np.transpose(pixel_to_sky(frame, true_view(frame), x, y)))
    return float(1000 * ARCSEC_PER_RADIAN * np.linalg.norm(by_wcs - true, axis=1).max())


@pytest.mark.parametrize("detector", ["NRCB1", "NRCB4"])
def test_all_that_is_left_of_aberration_is_taken_out(detector: str, tmp_path: Path) -> None:
    frame, path = exposure(tmp_path, detector, 9e-5)
    assert error_mas(path, frame) > 0.5
    (out := tmp_path / "out").mkdir()
    made = share_aberration(path, out).files["cal"]
    assert error_mas(made, frame) < 0.05
    header = fits.getheader(made, "SCI")
    assert [header[keyword] for keyword in KEYWORDS] == pytest.approx([frame.v2, frame.v3], abs=1e-6)
    corners = np.array(region_corners(header["S_REGION"]))
    with datamodels.open(made) as model:
        expected = np.transpose(model.meta.wcs([-0.5, 159.5], [-0.5, 159.5], with_bounding_box=False))
    for corner in expected:
        assert np.min(np.hypot(*(corners - corner).T)) * 3.6e6 < 1
    by_sip = WCS(header).all_pix2world([[80.0, 80.0]], 0)[0]
    with datamodels.open(made) as model:
        assert by_sip == pytest.approx(model.meta.wcs(80.0, 80.0), abs=0.2 / 3.6e6)


def test_without_aberration_nothing_changes(tmp_path: Path) -> None:
    frame, path = exposure(tmp_path, "NRCB1", 0.0)
    with datamodels.open(path) as model:
        assert correct_aberration(model) is None
    assert error_mas(path, frame) < 0.05


def test_what_was_corrected_before_stays(tmp_path: Path) -> None:
    frame, path = exposure(tmp_path, "NRCB1", 9e-5)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        path = share_aberration(path, folder).files["cal"]
    assert error_mas(path, frame) < 0.05
    assert KEYWORDS[0] in fits.getheader(path, "SCI")


def test_an_exposure_that_is_marked_as_corrected_stays(tmp_path: Path) -> None:
    _, path = exposure(tmp_path, "NRCB1", 9e-5)
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].header[KEYWORDS[0]] = 80.0
    (out := tmp_path / "out").mkdir()
    assert share_aberration(path, out).files["cal"].read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("scale", "told"), [(None, "no VA_SCALE"), (1 - 9e-5, "does not correct"), (1.0, "")])
def test_an_exposure_without_aberration_in_its_wcs_stays_and_is_named(
    scale: float | None, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, path = exposure(tmp_path, "NRCB1", 0.0)
    with datamodels.open(path) as model:
        model.meta.velocity_aberration.scale_factor = scale
        model.save(path)
    (out := tmp_path / "out").mkdir()
    made = share_aberration(path, out).files["cal"]
    assert made.read_bytes() == path.read_bytes()
    assert bool(caplog.text) == bool(told)
    assert told in caplog.text
    assert not told or path.name in caplog.text


def test_a_scale_that_is_no_velocity_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, path = exposure(tmp_path, "NRCB1", 2e-4)
    with datamodels.open(path) as model:
        assert correct_aberration(model) is None
    assert "VA_SCALE" in caplog.text


def test_an_exposure_without_a_known_aperture_takes_the_middle_of_the_instrument() -> None:
    assert common_point(None) == common_point("FGS1_FULL") == common_point("NRCALL_FULL")
    assert common_point("NRCBS_FULL") != common_point(None)


def test_real_exposures_are_moved_by_what_jwst_leaves() -> None:
    folder = real("wcs/*.asdf").parent
    for path in sorted(folder.glob("jw01345001001_02201_00001_*.asdf")):
        with asdf.open(path, memmap=False) as tree:
            wcs, info = tree["wcs"], tree["wcsinfo"]
            model = datamodels.ImageModel()
            model.meta.wcs = wcs
            model.meta.wcsinfo.v2_ref, model.meta.wcsinfo.v3_ref = info["v2_ref"], info["v3_ref"]
            model.meta.aperture.pps_name = "NRCALL_FULL"
            own = np.array([info["v2_ref"], info["v3_ref"]])
            before = np.array(wcs.get_transform("v2v3", "v2v3vacorr")(*own))
            common = np.array(correct_aberration(model))
            after = np.array(model.meta.wcs.get_transform("v2v3", "v2v3vacorr")(*own))
        # 1 - VA_SCALE of these exposures is 4.86e-5.
        np.testing.assert_allclose(before, own, atol=1e-9)
        np.testing.assert_allclose(after - before, -4.86e-5 * (own - common), atol=2e-5)
        assert 2e-3 < np.hypot(*(after - before)) < 7e-3
