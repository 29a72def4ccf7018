"""The tiled engine makes the jwst package's pixels, whatever the tiles and in whatever order exposures come."""

import shutil
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from jwst import datamodels
from jwst.resample.resample import ResampleImage
from real import real
from stdatamodels.jwst.datamodels.dqflags import pixel
from support.here import Here

from cosmosaic.catalog import CatalogFlag
from cosmosaic.catalog.files import read_catalog
from cosmosaic.catalog.measure import make_psf, measure_sources
from cosmosaic.cells.binning import bin_exposure
from cosmosaic.cells.units import write_cells
from cosmosaic.dq import is_usable
from cosmosaic.drizzle.exposure import ExposureError, read_exposure
from cosmosaic.drizzle.sums import read_patch
from cosmosaic.drizzle.units import FootprintError, drizzle_exposure
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.library import exposure_name, open_exposures
from cosmosaic.exposures.patterns import pattern_image, patterns_text, write_exposure_sky
from cosmosaic.exposures.search import find_exposures
from cosmosaic.geometry.grid import resample_parameters, survey_grid
from cosmosaic.geometry.pixelmap import sampled_map
from cosmosaic.geometry.sphere import GridError
from cosmosaic.geometry.windows import Box, cell_lattice, make_plan, tiles_of, window_of
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.mosaic.memory import SMALL_MOSAIC_PIXELS, fit_memory, peak_mb, tile_sides
from cosmosaic.nircam import SHORT_PIXEL_ARCSEC
from cosmosaic.outliers import with_jwst
from cosmosaic.outliers.units import keep_exposure
from cosmosaic.records import MosaicGrid
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import (
    CatalogSettings,
    DrizzleSettings,
    FilterPair,
    GridSettings,
    OutlierSettings,
    ResourceSettings,
    SimulationSettings,
    SkySettings,
    Survey,
)

SIMULATION = SimulationSettings(
    level="cal",
    detectors=("NRCB1",),
    subarray="SUB160",
    filter_pairs=(FilterPair(short="F150W", long="F277W"),),
    dithers_arcsec=((-0.6, -0.4), (0.4, 0.3), (0.9, -0.5), (-0.3, 0.7)),
)
GOOD_BITS = "~DO_NOT_USE+NON_SCIENCE"
KEEP_SKY = SkySettings(subtract=False)


def survey_of(tile_pixels: int | None = None, **settings: Any) -> Survey:
    return Survey(name="field", raw="given", resources=ResourceSettings(tile_pixels=tile_pixels), **settings)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four dithered exposures of 160 x 160 pixels, and a cosmic ray on the first."""
    folder = tmp_path_factory.mktemp("frames")
    planned = plan_exposures(SIMULATION)
    scene = survey_scene(SIMULATION, planned)
    paths = [simulate_exposure(frame, scene, SIMULATION, folder)[0] for frame in planned]
    with fits.open(paths[0], mode="update") as hdus:
        hdus["SCI"].data[80:82, 60:63] += 30.0
    return paths


@pytest.fixture(scope="module")
def levels(frames: list[Path]) -> dict[str, float]:
    return {exposure_name(path.name): float(np.nanmedian(fits.getdata(path, "SCI"))) for path in frames}


@pytest.fixture(scope="module")
def window(frames: list[Path]) -> MosaicGrid:
    return survey_grid(GridSettings(rotation=-35.0), {path.name: read_footprint(path) for path in frames})


def made(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, folder: Path, **settings: Any
) -> dict[str, np.ndarray]:
    mosaic = make_mosaic(frames, levels, window, survey_of(**settings), folder, Here())[0]
    return planes(mosaic)


def crf_of(frame: Path, folder: Path) -> Path:
    (path,) = folder.rglob(frame.name.replace("_cal", "_crf"))
    return path


def planes(mosaic: Path) -> dict[str, np.ndarray]:
    with fits.open(mosaic) as hdus:
        return {hdu.name: np.array(hdu.data, dtype=float) for hdu in hdus if hdu.is_image and hdu.data is not None}


@pytest.fixture(scope="module")
def mosaic(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("mosaic")
    return make_mosaic(frames, levels, window, survey_of(128), folder, Here())[0]


def resampled(crf: list[Path], window: MosaicGrid, folder: Path, **options: Any) -> Any:
    """The jwst package's mosaic of the same files."""
    parameters = resample_parameters(window)
    parameters["output_shape"] = parameters["output_shape"][::-1]
    resample = ResampleImage(
        open_exposures(crf, folder),
        fillval="NAN",
        good_bits=GOOD_BITS,
        blendheaders=False,
        enable_var=True,
        compute_err="from_var",
        wcs_pars=parameters,
        **options,
    )
    return resample.resample_many_to_one()


@pytest.mark.slow
@pytest.mark.parametrize("weight_type", ["ivm", "exptime"])
def test_given_the_same_flags_the_pixels_are_those_of_jwst(
    weight_type: str,
    frames: list[Path],
    levels: dict[str, float],
    window: MosaicGrid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Exact pixel maps: at the rim of so small an exposure a pixel in a hundred has next to no weight.
    monkeypatch.setattr("cosmosaic.geometry.pixelmap.TOLERANCE_PIXELS", 0.0)
    drizzle = DrizzleSettings(weight_type=weight_type, pixfrac=0.9)
    ours = made(frames, levels, window, tmp_path, drizzle=drizzle, tile_pixels=200)
    crf = sorted(tmp_path.rglob("*_crf.fits"))
    theirs = resampled(crf, window, tmp_path, weight_type=weight_type, pixfrac=0.9)
    np.testing.assert_array_equal(np.isnan(ours["SCI"]), np.isnan(theirs.data))
    np.testing.assert_array_equal(ours["WHT"] > 0, theirs.wht > 0)
    seen = theirs.wht > 0
    science = np.abs(ours["SCI"] - theirs.data)[seen] / theirs.err[seen]
    assert np.percentile(science, 99.99) < 1e-4
    for name, plane in {"WHT": theirs.wht, "ERR": theirs.err, "VAR_POISSON": theirs.var_poisson}.items():
        relative = np.abs(ours[name] / np.where(seen, plane, 1) - 1)[seen]
        assert np.percentile(relative, 99.99) < 1e-5, name


@pytest.mark.parametrize("kernel", ["turbo", "point"])
def test_other_kernels_are_the_packages_own(
    kernel: str, frames: list[Path], levels: dict[str, float], window: MosaicGrid, tmp_path: Path
) -> None:
    settings = {
        "drizzle": DrizzleSettings(kernel=kernel, weight_type="ivm"),
        "outliers": OutlierSettings(enabled=False),
    }
    ours = made(frames[:2], levels, window, tmp_path, **settings)
    theirs = resampled(sorted(tmp_path.rglob("*_crf.fits")), window, tmp_path, kernel=kernel)
    seen = theirs.wht > 0
    assert np.mean(seen != (ours["WHT"] > 0)) < 1e-4
    difference = np.abs(ours["SCI"] - theirs.data)[seen] / theirs.err[seen]
    assert np.nanpercentile(difference, 99.5) < 1e-3


def test_tiles_leave_no_trace(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, mosaic: Path, tmp_path: Path
) -> None:
    whole = made(frames, levels, window, tmp_path, tile_pixels=4096)
    for name, plane in planes(mosaic).items():
        np.testing.assert_array_equal(plane, whole[name], err_msg=name)


def test_only_tiles_with_outliers_have_a_patch(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, tmp_path: Path
) -> None:
    usual = made(frames, levels, window, tmp_path / "usual", tile_pixels=128)
    sizes = [read_patch(path).indices.size for path in (tmp_path / "usual").rglob("*_patch.npy")]
    assert sizes
    assert all(sizes)
    blind = OutlierSettings(snr=(1e9, 1e9))
    kept = made(frames, levels, window, tmp_path / "blind", tile_pixels=128, outliers=blind)
    assert list((tmp_path / "blind").rglob("*_patch.npy")) == []
    assert np.nanmax(kept["SCI"] - usual["SCI"]) > 1  # the cosmic ray


def test_the_order_of_the_exposures_does_not_matter(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, mosaic: Path, tmp_path: Path
) -> None:
    again = make_mosaic(frames[::-1], levels, window, survey_of(128), tmp_path, Here())[0]
    assert again.read_bytes() == mosaic.read_bytes()


@pytest.mark.slow
def test_equal_work_gives_equal_bytes_in_another_process(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, mosaic: Path, tmp_path: Path
) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        again = make_mosaic(frames, levels, window, survey_of(128), tmp_path, executor)[0]
    assert again.read_bytes() == mosaic.read_bytes()


def test_a_cosmic_ray_is_flagged_and_leaves_the_mosaic(mosaic: Path, frames: list[Path]) -> None:
    with fits.open(crf_of(frames[0], mosaic.parents[2])) as hdus:
        assert ((hdus["DQ"].data[80:82, 60:63] & pixel["OUTLIER"]) > 0).all()
        assert np.isnan(hdus["SCI"].data[80:82, 60:63]).all()
        assert np.mean((hdus["DQ"].data & pixel["OUTLIER"]) > 0) < 0.01
        header = hdus[0].header
        assert (header["S_OUTLIR"], header["BKGSUB"]) == ("COMPLETE", True)
    with fits.open(mosaic) as hdus:
        exposure = read_exposure(frames[0])
        x, y = WCS(hdus["SCI"].header).world_to_pixel_values(*exposure.wcs(61.0, 80.5))
        near = hdus["SCI"].data[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
        assert np.nanmax(near) < 3.0


def test_the_sky_is_taken_out_of_the_mosaic_whether_or_not_it_leaves_the_exposures(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, mosaic: Path, tmp_path: Path
) -> None:
    kept = made(frames, levels, window, tmp_path, sky=KEEP_SKY)
    np.testing.assert_array_equal(kept["SCI"], planes(mosaic)["SCI"])
    with_sky, without = (fits.getdata(crf_of(frames[1], folder), "SCI") for folder in (tmp_path, mosaic.parents[2]))
    assert np.nanmedian(with_sky - without) == pytest.approx(levels[exposure_name(frames[1].name)], rel=1e-4)


@pytest.mark.parametrize("sky", [SkySettings(), KEEP_SKY])
def test_the_cells_of_an_exposure_in_memory_are_those_of_its_file(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, sky: SkySettings, tmp_path: Path
) -> None:
    make_mosaic(frames, levels, window, survey_of(sky=sky), tmp_path, Here())
    lattice = cell_lattice(window, SHORT_PIXEL_ARCSEC)
    for frame in frames:
        crf = crf_of(frame, tmp_path)
        with datamodels.open(crf) as model:
            if not model.meta.background.subtracted:
                model.data -= model.meta.background.level
            binned = bin_exposure(model, lattice)
        of_file = np.load(write_cells(binned, tmp_path / "of_file.npz"))
        (in_memory,) = tmp_path.rglob(frame.name.replace("_cal.fits", "_cleared.npz"))
        with np.load(in_memory) as stored:
            assert stored.files == of_file.files
            for name in stored.files:
                np.testing.assert_array_equal(stored[name], of_file[name], err_msg=name)


def test_the_mosaic_opens_in_jwst_and_by_its_header(mosaic: Path, window: MosaicGrid) -> None:
    with datamodels.open(str(mosaic)) as model, fits.open(mosaic) as hdus:
        assert model.data.shape == window.shape
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            WCS(hdus["SCI"].header)
        x, y = np.array([10.0, 200.0]), np.array([20.0, 100.0])
        np.testing.assert_allclose(model.meta.wcs(x, y), WCS(hdus["SCI"].header).all_pix2world(x, y, 0), atol=1e-9)
        assert model.meta.photometry.pixelarea_arcsecsq == pytest.approx(0.0009)
        assert model.meta.cal_step.resample == "COMPLETE"
        assert model.meta.resample.pointings == 4
        assert model.meta.exposure.exposure_time > 3 * model.meta.exposure.measurement_time / 4
        assert hdus["NEXP"].data.max() == 4
        np.testing.assert_array_equal(hdus["NEXP"].data > 0, hdus["WHT"].data > 0)
        hdus.verify("exception")


def test_the_mosaic_tells_when_its_first_exposure_began_and_its_last_one_ended(
    mosaic: Path, frames: list[Path]
) -> None:
    start = min(fits.getval(path, "EXPSTART") for path in frames)
    end = max(fits.getval(path, "EXPEND") for path in frames)
    with fits.open(mosaic) as hdus:
        primary, sci = hdus[0].header, hdus["SCI"].header
        assert (primary["EXPSTART"], primary["EXPEND"]) == (sci["MJD-BEG"], sci["MJD-END"]) == (start, end)
        for header in (primary, sci):
            assert Time(header["DATE-BEG"], scale="utc").mjd == pytest.approx(start, abs=1e-8)
            assert Time(header["DATE-END"], scale="utc").mjd == pytest.approx(end, abs=1e-8)


def test_exposures_with_the_keywords_of_mirage_make_the_same_mosaic(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, mosaic: Path, tmp_path: Path
) -> None:
    with fits.open(real("mirage/*nrca1_rate.fits.gz")) as hdus:
        known = [set(hdus[name].header) for name in ("PRIMARY", "SCI")]
    # Those of the calibration, which Mirage's rate images go through.
    known[1] |= {"PHOTMJSR", "PIXAR_SR", "PIXAR_A2", "BUNIT"}
    stripped = [Path(shutil.copy(path, tmp_path)) for path in frames]
    for path in stripped:
        with fits.open(path, mode="update") as hdus:
            for hdu, kept in zip(hdus[:2], known, strict=True):
                for keyword in set(hdu.header) - kept - {"SIMPLE", "XTENSION", ""}:
                    hdu.header.remove(keyword)
            assert "DATE-BEG" not in hdus[0].header
            assert "S_REGION" not in hdus["SCI"].header
    found = find_exposures(str(tmp_path))
    assert len(found.exposures) == 4
    assert found.refused == ()
    (tmp_path / "out").mkdir()
    again = made(stripped, levels, window, tmp_path / "out")
    for name, plane in planes(mosaic).items():
        np.testing.assert_array_equal(again[name], plane)


def test_the_mosaic_carries_the_headers_of_its_exposures(mosaic: Path, frames: list[Path]) -> None:
    table = fits.getdata(mosaic, "HDRTAB")
    assert list(table["FILENAME"]) == sorted(path.name for path in frames)
    assert list(table["EXPSTART"]) == [fits.getval(path, "EXPSTART") for path in sorted(frames)]
    assert set(table["DETECTOR"]) == {"NRCB1"}


@pytest.mark.parametrize("engine", ["tiles", "jwst"])
def test_patterns_leave_an_exposure_and_its_edges_are_flagged(
    frames: list[Path], window: MosaicGrid, tmp_path: Path, engine: str
) -> None:
    stripes, width, level = 0.1 * (np.arange(16.0) > 0)[:, None], 12, 0.2
    name = exposure_name(frames[0].name)
    sky = write_exposure_sky(level, patterns_text([stripes]), tmp_path / f"{name}_sky.json")
    treatment, folder, cells = SkySettings(trim_pixels=width).treatment, tmp_path / "crf", cell_lattice(window, 0.0311)
    folder.mkdir()
    if engine == "tiles":
        crf = keep_exposure(frames[0], sky, treatment, cells, folder).files["crf"]
    else:
        off = OutlierSettings(enabled=False)
        made = with_jwst.flag_outliers({name: frames[0]}, {name: sky}, treatment, off, DrizzleSettings(), cells, folder)
        crf = made.files["crfs"][name]
    inner = np.s_[width:-width, width:-width]
    with fits.open(frames[0]) as before, fits.open(crf) as after:
        taken = (before["SCI"].data - after["SCI"].data)[inner]
        flagged = (after["DQ"].data & pixel["DO_NOT_USE"]) > 0
        was_flagged = (before["DQ"].data & pixel["DO_NOT_USE"]) > 0
        usable = is_usable(before["SCI"].data, before["ERR"].data, before["DQ"].data)
    rows = np.nanmean(taken, axis=1)
    assert np.nanmax(np.abs(taken - rows[:, None])) < 1e-5
    # Over all usable pixels, those of the edges included, the pattern has no mean: the level is what it was.
    expected = level + pattern_image([stripes], usable)[:, 0]
    assert np.abs(rows - expected[width:-width]).max() < 1e-5
    assert np.array_equal(flagged[inner], was_flagged[inner])
    flagged[inner] = True
    assert flagged.all()


def test_an_exposure_that_lies_elsewhere_than_it_says_is_named(
    frames: list[Path], window: MosaicGrid, tmp_path: Path
) -> None:
    far = window.model_copy(update={"crpix": (window.crpix[0] + 4096, window.crpix[1])})
    with pytest.raises(FootprintError, match=exposure_name(frames[0].name)):
        drizzle_exposure(frames[0], None, 0, tiles_of(far, 512), DrizzleSettings(), tmp_path)


def test_an_exposure_with_a_wild_wcs_is_named_before_memory_is_asked_for(
    frames: list[Path], window: MosaicGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosmosaic.drizzle.units.sampled_map", lambda *given: 500.0 * sampled_map(*given))
    with pytest.raises(FootprintError, match=exposure_name(frames[0].name)):
        drizzle_exposure(frames[0], None, 0, tiles_of(window, 512), DrizzleSettings(), tmp_path)


def test_an_exposure_beside_the_mosaic_is_named_by_the_plan(frames: list[Path], window: MosaicGrid) -> None:
    footprints = {"here": read_footprint(frames[0]), "astray": [(10.0, 10.0), (10.01, 10.0), (10.0, 10.01)]}
    with pytest.raises(GridError, match="astray: outside the mosaic"):
        make_plan(footprints, window)


def test_a_new_exposure_leaves_all_that_lies_elsewhere_as_it_was(tmp_path: Path) -> None:
    # The third lies 3 arcsec beside the first two: in the same tiles, but not on the same sky.
    settings = SIMULATION.model_copy(update={"dithers_arcsec": ((0.0, 0.0), (0.4, 0.3), (8.0, 0.0))})
    planned = plan_exposures(settings)
    scene = survey_scene(settings, planned)
    paths = [simulate_exposure(frame, scene, settings, tmp_path)[0] for frame in planned]
    window = survey_grid(GridSettings(), {path.name: read_footprint(path) for path in paths})
    before = parts_made(paths[:2], window, tmp_path / "before")
    after = parts_made(paths, window, tmp_path / "after")
    assert {name for name in before if "mosaic" not in name} <= set(after)
    changed = {name for name in before if before[name] != after[name]}
    assert changed
    assert all(name.endswith("_mosaic.packed") for name in changed)


def parts_made(frames: list[Path], window: MosaicGrid, folder: Path) -> dict[str, bytes]:
    make_mosaic(frames, {}, window, survey_of(512), folder, Here())
    made = (path for path in folder.rglob("*.*") if path.is_file() and not path.name.endswith("_i2d.fits"))
    return {path.name: path.read_bytes() for path in made}


def test_two_detectors_of_an_exposure_count_as_one(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, tmp_path: Path
) -> None:
    twin = Path(shutil.copy(frames[0], tmp_path / frames[0].name.replace("nrcb1", "nrcb2")))
    counted = made([frames[0], twin, frames[1]], levels, window, tmp_path)["NEXP"]
    assert counted.max() == 2
    alone = made([frames[0], twin], levels, window, tmp_path / "alone")["NEXP"]
    assert alone.max() == 1


def test_science_and_weight_do_not_depend_on_the_kind_of_errors(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, mosaic: Path, tmp_path: Path
) -> None:
    usual = planes(mosaic)
    for errors in ("propagated", "none"):
        ours = made(frames, levels, window, tmp_path / errors, drizzle=DrizzleSettings(errors=errors))
        np.testing.assert_array_equal(ours["SCI"], usual["SCI"])
        np.testing.assert_array_equal(ours["WHT"], usual["WHT"])
        seen = usual["WHT"] > 0
        if errors == "none":
            assert np.isnan(ours["ERR"]).all()
        else:
            # A pixel scatters less than the mean of the errors that went into it.
            assert 0.3 < np.nanmedian(ours["ERR"][seen] / usual["ERR"][seen]) < 0.9


def test_a_file_without_its_planes_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "jw01727001001_02101_00001_nrcb1_cal.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((4, 4)), name="SCI")]).writeto(path)
    with pytest.raises(ExposureError, match=r"nrcb1_cal.fits cannot be read.*: no extension ERR, VAR_POISSON"):
        read_exposure(path)


def test_an_exposure_is_planned_for_the_tiles_it_touches(frames: list[Path], window: MosaicGrid) -> None:
    footprints = {path.name: read_footprint(path) for path in frames}
    plan = make_plan(footprints, window, 64)
    assert {tile.tile for tile in plan.tiles} == set(plan.exposures_of_tile)
    for name, tiles in plan.tiles_of_exposure.items():
        assert all(name in plan.exposures_of_tile[tile.tile] for tile in tiles)
    alone = make_plan({frames[0].name: footprints[frames[0].name]}, window, 64)
    assert alone.tiles_of_exposure[frames[0].name] == plan.tiles_of_exposure[frames[0].name]


def test_a_mosaic_that_a_tile_about_the_tangent_point_holds_is_one_tile(window: MosaicGrid) -> None:
    half = SMALL_MOSAIC_PIXELS // 2
    full, ratio = (2048, 2048), 1.03
    for box, tiles in ((Box(-half, -900, 2 * half, 1000), 1), (Box(-half, -900, 2 * half + 1, 1000), 10)):
        mosaic = window_of(window, box, "full")
        side = fit_memory(64.0, 2, full, ratio, tile_sides(mosaic)).tile_pixels
        assert len(tiles_of(mosaic, side)) == tiles


def test_memory_bounds_tiles_and_workers() -> None:
    full, ratio = (2048, 2048), 2.1
    assert fit_memory(64.0, 8, full, ratio) == (1024, 8)
    tight = fit_memory(2.0, 8, full, ratio)
    assert tight.processes * peak_mb(full, tight.tile_pixels, ratio) <= 2000.0
    assert tight.processes < 8
    with pytest.raises(ValueError, match=r"memory_gb = 0\.1 is too little"):
        fit_memory(0.1, 8, full, ratio)


def catalogue(paths: list[Path], levels: dict[str, float], window: MosaicGrid, folder: Path) -> Table:
    mosaic, settings = make_mosaic(paths, levels, window, survey_of(), folder, Here())[0], CatalogSettings()
    psf = make_psf(mosaic, None, settings.background_box_arcsec, 1.0, "F150W", "x", folder).files["psf"]
    return read_catalog(measure_sources({"F150W": mosaic}, {"F150W": psf}, settings, "x", folder).files["catalog"])


def with_star(paths: list[Path], place: np.ndarray, factors: tuple[float, ...], folder: Path) -> list[Path]:
    """Copy exposures with a star at a place on the sky (RA, Dec), so many times as bright in each of them."""
    folder.mkdir()
    for path, factor in zip(paths, factors, strict=True):
        x0, y0 = (float(each) for each in read_exposure(path).wcs.invert(*place))
        with fits.open(path, memmap=False) as hdus:
            y, x = np.indices(hdus["SCI"].data.shape)
            hdus["SCI"].data += (factor * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2)).astype(np.float32)
            hdus.writeto(folder / path.name)
    return [folder / path.name for path in paths]


def test_a_star_that_was_brighter_in_one_exposure_is_flagged(
    frames: list[Path], levels: dict[str, float], window: MosaicGrid, tmp_path: Path
) -> None:
    corners = np.array([read_footprint(path) for path in frames])
    place, flagged = corners.mean(axis=(0, 1)), {}
    for name, factors in {"steady": (20.0,) * 4, "varied": (20.0, 200.0, 20.0, 20.0)}.items():
        paths = with_star(frames, place, factors, tmp_path / f"{name}-exposures")
        (tmp_path / name).mkdir()
        found = catalogue(paths, levels, window, tmp_path / name)
        away = np.hypot((found["ra"] - place[0]) * np.cos(np.radians(place[1])), found["dec"] - place[1]) * 3600
        assert away.min() < 0.05
        flagged[name] = bool(found["flags"][np.argmin(away)] & CatalogFlag.REJECTED)
    assert flagged == {"steady": False, "varied": True}
