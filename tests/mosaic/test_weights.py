"""Mosaics of uneven exposures are as deep as weights by sky and read noise make them, and their errors are true."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import mad_std
from support.here import Here

from cosmosaic.drizzle.exposure import ExposureError, light_of, read_exposure, sky_variance
from cosmosaic.drizzle.units import inspect_exposure
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import DrizzleSettings, FilterPair, GridSettings, OutlierSettings, SimulationSettings, Survey

EMPTY = SimulationSettings(
    level="cal",
    detectors=("NRCBLONG",),
    subarray="SUB160",
    readout_pattern="MEDIUM8",
    filter_pairs=(FilterPair(short="F150W", long="F444W"),),
    dithers_arcsec=((-0.6, -0.4), (0.4, 0.3), (0.9, -0.5), (-0.3, 0.7)),
    galaxies_per_arcmin2=0.0,
    stars_per_arcmin2=0.0,
    pedestal_rms=0.0,
    flicker_noise=False,
    cosmic_rays_per_s_cm2=0.0,
)
UNEVEN = ((3, 0.25), (3, 0.75), (10, 0.25), (10, 0.75))
"""Groups and sky in MJy/sr of each exposure."""
BLOCK = 8


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four exposures of the empty sky."""
    folder, planned = tmp_path_factory.mktemp("uneven"), plan_exposures(EMPTY)
    scene = survey_scene(EMPTY, planned)
    return [
        simulate_exposure(one, scene, EMPTY.model_copy(update={"groups": groups, "sky_mjy_sr": sky}), folder)[0]
        for one, (groups, sky) in zip(planned, UNEVEN, strict=True)
    ]


def mosaic_of(paths: list[Path], folder: Path, **drizzle: Any) -> dict[str, np.ndarray]:
    """The inner part of the mosaic, which all exposures cover."""
    window = survey_grid(GridSettings(), {path.name: read_footprint(path) for path in paths})
    levels = {exposure_name(path.name): float(np.nanmedian(fits.getdata(path, "SCI"))) for path in paths}
    off = OutlierSettings(enabled=False)
    survey = Survey(name="field", raw="given", outliers=off, drizzle=DrizzleSettings(**drizzle))
    with fits.open(make_mosaic(paths, levels, window, survey, folder, Here())[0]) as hdus:
        planes = {hdu.name: np.array(hdu.data, float) for hdu in hdus if hdu.is_image and hdu.data is not None}
    planes["SCI"][planes["NEXP"] < len(paths)] = np.nan
    return planes


def blocks(image: np.ndarray) -> np.ndarray:
    """Sums over blocks whose pixels all have a value."""
    rows, columns = (n // BLOCK for n in image.shape)
    sums = image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).sum(axis=(1, 3))
    return sums[np.isfinite(sums)]


@pytest.mark.slow
def test_weights_by_sky_and_read_noise_are_as_deep_as_the_exposures_allow(uneven: list[Path], tmp_path: Path) -> None:
    scatter = {
        weight: mad_std(blocks(mosaic_of(uneven, tmp_path / weight, weight_type=weight)["SCI"]))
        for weight in ("ivm-sky", "ivm", "exptime")
    }
    read = [read_exposure(path) for path in uneven]
    noise = np.array([np.nanmedian(one.variances[1]) for one in read])
    total = noise + [np.nanmedian(one.variances[0]) for one in read]
    best, by_read_noise = 1 / np.sqrt((1 / total).sum()), np.sqrt((total / noise**2).sum()) / (1 / noise).sum()
    assert by_read_noise > 1.1 * best
    # The noise is common to all weights, so that ratios are known better than each scatter.
    assert scatter["ivm"] / scatter["ivm-sky"] == pytest.approx(by_read_noise / best, rel=0.06)
    assert scatter["exptime"] > 1.02 * scatter["ivm-sky"]


def test_errors_are_those_of_the_weights(uneven: list[Path], tmp_path: Path) -> None:
    single = mosaic_of(uneven, tmp_path / "single", errors="propagated")
    assert mad_std((single["SCI"] / single["ERR"])[np.isfinite(single["SCI"])]) == pytest.approx(1.0, abs=0.03)
    summed = mosaic_of(uneven, tmp_path / "summed")
    pull = mad_std(blocks(summed["SCI"])) / np.sqrt(np.median(blocks(summed["ERR"] ** 2)))
    # Sums over 8 by 8 pixels of 30 mas scatter by 0.91 of these errors (docs/engine.md).
    assert pull == pytest.approx(0.91, abs=0.06)
    read = read_exposure(uneven[0])
    assert np.nanmedian(summed["ERR"]) < np.sqrt(np.nanmedian(read.variances[0] + read.variances[1])) * 63 / 30


def test_sources_do_not_change_weights(uneven: list[Path]) -> None:
    read = read_exposure(uneven[0])
    weight = light_of(read, "ivm-sky").weight
    expected = 1 / (np.nanmedian(read.variances[1]) + np.nanmedian(read.variances[0]))
    assert np.median(weight[weight > 0]) == pytest.approx(expected, rel=0.02)
    before = sky_variance(read)
    read.variances[0][:60, 40:160] *= np.linspace(1.0, 300.0, 120, dtype=np.float32)
    assert sky_variance(read) == pytest.approx(before, rel=0.03)
    np.testing.assert_allclose(light_of(read, "ivm-sky").weight, weight, rtol=0.03)
    # As where Stage 1 finds a negative count rate.
    read.variances[0][np.random.default_rng(1).uniform(size=read.shape) < 0.5] = 0.0
    assert sky_variance(read) == pytest.approx(before, rel=0.03)


@pytest.fixture
def without_variance(uneven: list[Path], tmp_path: Path) -> Path:
    """An exposure whose Poisson variance was lost."""
    path = tmp_path / uneven[0].name
    with fits.open(uneven[0]) as hdus:
        hdus["VAR_POISSON"].data[:] = 0.0
        hdus.writeto(path)
    return path


def test_an_exposure_without_variance_of_its_sky_is_refused_by_name(without_variance: Path, tmp_path: Path) -> None:
    with pytest.raises(ExposureError, match=r"jw\w+_nrcblong: VAR_POISSON .*set drizzle.weight_type = 'ivm'"):
        inspect_exposure(without_variance, "ivm-sky", tmp_path)
    assert inspect_exposure(without_variance, "ivm", tmp_path).facts["usable_pixels"] > 10_000


def test_the_jwst_engine_refuses_weights_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match='weight_type = "ivm-sky", the default, needs engine = "tiles"'):
        Survey(name="field", engine="jwst")
    assert Survey(name="field", engine="jwst", drizzle=DrizzleSettings(weight_type="ivm")).engine == "jwst"
