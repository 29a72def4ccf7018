"""The simulated CRDS cache serves the jwst pipelines and describes the simulated detectors."""

import ast
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import asdf
import numpy as np
import pysiaf
import pytest
from astropy.io import fits

from cosmosaic.nircam import DETECTOR_PIXELS
from cosmosaic.simulate.geometry import detector_geometry, exposure_shape, subarray_window
from cosmosaic.simulate.instrument import detector_maps, flux_conversion
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.ramps import write_ramp
from cosmosaic.simulate.references import (
    CRDS_CONTEXT,
    UNUSED_TYPES,
    distortion_model,
    nominal_pixel_area_arcsec2,
    write_crds_cache,
)
from cosmosaic.survey import FilterPair, SimulationSettings

SETTINGS = SimulationSettings(
    subarray="SUB160",
    detectors=("NRCB1",),
    filter_pairs=(FilterPair(short="F162M", long="F277W"),),
    groups=4,
    flicker_noise=False,
)
DETECTORS = ("NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCBLONG")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crds")
    write_crds_cache(SETTINGS, folder)
    return folder


def reference(cache: Path, name: str) -> Path:
    return cache / "references/jwst/nircam" / name


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("detector", DETECTORS)
def test_distortion_is_that_of_siaf_and_its_inverse_closes(detector: str) -> None:
    aperture = pysiaf.Siaf("NIRCam")[f"{detector.replace('LONG', '5')}_FULL"]
    y, x = np.mgrid[0:DETECTOR_PIXELS:93, 0:DETECTOR_PIXELS:93].astype(float)
    model = distortion_model(detector)
    v2, v3 = model(x, y)
    expected = aperture.sci_to_tel(x + 1, y + 1)
    pixel = np.sqrt(nominal_pixel_area_arcsec2(detector))
    assert np.max(np.hypot(v2 - expected[0], v3 - expected[1])) < 1e-9 * pixel
    back = model.inverse(v2, v3)
    assert np.max(np.hypot(back[0] - x, back[1] - y)) < 1e-3


def test_equal_settings_give_equal_bytes(cache: Path, tmp_path: Path) -> None:
    write_crds_cache(SETTINGS, tmp_path)
    assert digests(tmp_path) == digests(cache)


def test_the_context_knows_every_reference_type_that_the_pipelines_ask_for(cache: Path) -> None:
    from jwst.pipeline import Detector1Pipeline, Image2Pipeline, Image3Pipeline

    rules = (cache / "mappings/jwst/jwst_nircam_0001.imap").read_text().split("selector = ")[1]
    asked: set[str] = set()
    for pipeline in (Detector1Pipeline, Image2Pipeline, Image3Pipeline):
        steps = [pipeline(), *(step() for step in pipeline.step_defs.values())]
        asked |= {step.get_config_reftype() for step in steps} | {t for s in steps for t in s.reference_file_types}
    known = set(ast.literal_eval(rules))
    assert asked <= known
    assert set(UNUSED_TYPES) <= known


def test_references_describe_the_simulated_detector(cache: Path) -> None:
    frame = plan_exposures(SETTINGS)[0]
    maps = detector_maps("NRCB1", subarray_window(frame.aperture))
    stem = "simulated_nircam_nrcb1_sub160"
    for kind, expected in (
        ("gain", maps.gain),
        ("superbias", maps.superbias),
        ("readnoise", maps.read_noise * np.sqrt(2)),
        ("flat", maps.flat),
    ):
        with fits.open(reference(cache, f"{stem}_{kind}.fits")) as hdus:
            assert hdus[0].header["DETECTOR"] == "NRCB1"
            assert hdus[0].header["SUBSIZE1"] == 160
            np.testing.assert_allclose(hdus["SCI"].data, expected, rtol=1e-6)
    with fits.open(reference(cache, "simulated_nircam_nrcb1_photom.fits")) as hdus:
        row = hdus["PHOTOM"].data[0]
        assert (row["filter"], row["pupil"]) == ("F150W2", "F162M")
        assert row["photmjsr"] == pytest.approx(flux_conversion("NRCB1", "F162M"))


def test_aperture_corrections_enclose_more_light_at_larger_radii(cache: Path) -> None:
    with fits.open(reference(cache, "simulated_nircam_apcorr.fits")) as hdus:
        rows = hdus["APCORR"].data[hdus["APCORR"].data["pupil"] == "F162M"]
    assert np.all(np.diff(rows["radius"]) > 0)
    assert 0.5 < rows["radius"][4] < 3.0
    np.testing.assert_allclose(rows["apcorr"] * rows["eefraction"], 1, rtol=1e-6)


def test_the_distortion_file_holds_the_distortion(cache: Path) -> None:
    with asdf.open(reference(cache, "simulated_nircam_nrcb1_distortion.asdf")) as file:
        geometry = detector_geometry("NRCB1")
        v2, v3 = file["model"](geometry.x_reference, geometry.y_reference)
    assert (v2, v3) == (pytest.approx(geometry.v2[0, 0]), pytest.approx(geometry.v3[0, 0]))


@pytest.mark.slow
def test_the_jwst_pipelines_give_the_sky_back(cache: Path, tmp_path: Path) -> None:
    frame = plan_exposures(SETTINGS)[0]
    level = 200.0
    sky = np.full(exposure_shape(frame), level, dtype=np.float32)
    truth = write_ramp(frame, sky, SETTINGS, tmp_path / f"{frame.name}_uncal.fits")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRDS_")}
    environment |= {"CRDS_PATH": str(cache), "CRDS_CONTEXT": CRDS_CONTEXT}
    # CRDS caches its configuration for the life of a process.
    subprocess.run([sys.executable, "-c", _PIPELINES, frame.name], cwd=tmp_path, env=environment, check=True)
    with fits.open(tmp_path / f"{frame.name}_cal.fits") as hdus:
        data, error, dq = (hdus[name].data for name in ("SCI", "ERR", "DQ"))
        assert hdus["SCI"].header["BUNIT"] == "MJy/sr"
    assert np.all(np.isnan(data[:4]))
    clean = (dq == 0) & (truth.cosmic_rays == 0)
    pull = (data - level - truth.pedestal_mjy_sr)[clean] / error[clean]
    assert clean.mean() > 0.9
    assert np.median(data[clean]) == pytest.approx(level, rel=0.01)
    assert 0.9 < np.std(pull) < 1.1


_PIPELINES = """
import sys
from jwst.pipeline import Detector1Pipeline, Image2Pipeline
name = sys.argv[1]
rate = Detector1Pipeline.call(f"{name}_uncal.fits")
(cal,) = Image2Pipeline.call(rate, steps={"resample": {"skip": True}})
cal.save(f"{name}_cal.fits")
"""
