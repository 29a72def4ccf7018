"""Exposures that stay in their files: what is measured in them is the same, and few are held at a time."""

import gc
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

from cosmosaic.cells import survey as survey_module
from cosmosaic.cells.stored import CellsFileError, StoredExposure
from cosmosaic.cells.survey import CellExposure, CellSurvey, without_patterns
from cosmosaic.cells.units import read_cells, write_cells
from cosmosaic.records import Lattice
from cosmosaic.sky import measure as measure_module
from cosmosaic.sky import methods
from cosmosaic.sky.measure import measure_sky
from cosmosaic.sky.methods import SkyInputs, measure
from cosmosaic.sky.solution import SkyRequest, SkySolution, SolvedExposure
from cosmosaic.verdict import judgement
from cosmosaic.verdict.judgement import judge_exposures
from cosmosaic.verdict.verdict import make_judge, pure_noise

SIDE, RMS = 48, 0.04
DITHERS = ((0, 0), (14, 5), (6, 20), (21, 15))
GRID = Lattice(tangent_ra=150.1, tangent_dec=2.2, rotation=0.0, pixel_scale_mas=250.0)
NUMBER = 32
TOGETHER = 3
MOST_HELD = 2 * TOGETHER + 6
"""Two groups of neighbours, and the last one of each loop that has ended."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    """Four dithers each of places in a square; names are in no order of places."""
    folder, draw = tmp_path_factory.mktemp("cells"), np.random.default_rng(7)
    sky = 0.5 * RMS * draw.standard_normal((240, 240)) ** 8 / 100
    y, x = np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE - 0.5] * 2, indexing="ij")
    made = {}
    for number, name in enumerate(draw.permutation(NUMBER).tolist()):
        place, dither = divmod(number, 4)
        row, column = np.add(np.multiply(divmod(place, 3), SIDE + 3), DITHERS[dither]).tolist()
        mean = 0.3 + 0.2 * RMS * draw.standard_normal() + sky[row : row + SIDE, column : column + SIDE]
        mean = mean + RMS / 8 * draw.standard_normal((SIDE, SIDE)) + 0.1 * RMS * np.sin(9 * y + number)
        bad = draw.random((SIDE, SIDE)) < 0.02
        exposure = CellExposure(
            name=f"exposure{name:02}",
            detector=f"NRCB{place % 2 + 1}",
            group=str(dither),
            origin=(row - 100, column + 40),
            mean=np.where(bad, np.nan, mean),
            variance=np.where(bad, np.inf, (RMS / 8) ** 2),
            pixels=np.where(bad, 0, 64).astype(np.int32),
            pixel_rms=RMS * (1 + 0.01 * place),
            detector_rows=8 * SIDE,
            detector_position=(np.where(bad, np.nan, x), np.where(bad, np.nan, y)),
        )
        made[exposure.name] = write_cells(exposure, folder / f"{exposure.name}_cells.npz")
    return made


@pytest.fixture
def few_together(monkeypatch):
    monkeypatch.setattr(survey_module, "TOGETHER", TOGETHER)


@pytest.fixture
def most_held(monkeypatch, few_together) -> list[int]:
    """Number of exposures with arrays that were held at once, whenever an array was read."""
    read, held, numbers = StoredExposure.__getattr__, {}, [0]

    def counted(exposure, name):
        key = id(exposure)
        held[key] = weakref.ref(exposure, lambda _: held.pop(key, None))
        numbers.append(len(held))
        return read(exposure, name)

    monkeypatch.setattr(StoredExposure, "__getattr__", counted)
    return numbers


def in_memory(survey: CellSurvey) -> CellSurvey:
    return CellSurvey(survey.grid, tuple(survey.exposures))


def request(method: str = "overlap", **changes) -> SkyRequest:
    return SkyRequest(**{"method": method, "slow_stripes": True, "grid": GRID, **changes})


@pytest.mark.parametrize("method", ["overlap", "overlap-planes", "surface", "pedestal"])
def test_the_sky_is_that_of_exposures_in_memory(paths, method, few_together, tmp_path):
    stored = read_cells(list(paths.values())[::-1], GRID, tmp_path)
    found, expected = (measure(method, SkyInputs(survey, [], None, tmp_path)) for survey in (stored, in_memory(stored)))
    assert found.levels == expected.levels
    assert found.patterns.keys() == expected.patterns.keys()
    for name, nodes in found.patterns.items():
        np.testing.assert_array_equal(nodes, expected.patterns[name])


@pytest.mark.parametrize("seed", [None, 1])
def test_the_verdict_is_that_of_exposures_in_memory(paths, seed, few_together, tmp_path):
    stored = read_cells(list(paths.values()), GRID, tmp_path)
    judges = [
        make_judge(survey if seed is None else pure_noise(survey, seed)) for survey in (stored, in_memory(stored))
    ]
    levels = dict.fromkeys(stored.names, 0.3)
    found, expected = (judge.judge(levels) for judge in judges)
    assert found == expected
    assert np.isfinite([metric.value for metric in found.metrics[:5]]).all()


def test_few_exposures_are_held_while_the_sky_is_measured(paths, most_held, tmp_path):
    kept = [SolvedExposure(name=name, sha256="", level=0.3, error=None, patterns="", kept=True) for name in paths]
    solution = SkySolution(asked=request().asked, method="overlap", exposures=tuple(kept[: NUMBER // 2]))
    folder = tmp_path / "out"
    folder.mkdir()
    measure_sky(paths, paths, {}, None, request("overlap-planes", kept=solution), "sky", folder)
    assert 2 < max(most_held) <= MOST_HELD < NUMBER / 2


@pytest.mark.parametrize("when", ["before", "after", "noise"])
def test_few_exposures_are_held_while_the_sky_is_judged(paths, when, most_held, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    judge_exposures(paths, GRID, when, folder)
    assert 2 < max(most_held) <= MOST_HELD


def test_every_pair_is_compared_once_and_found_in_order(paths, few_together):
    survey, compared = read_cells(list(paths.values()), GRID), []

    def names(first, second):
        compared.append((first.name, second.name))
        return compared[-1]

    assert survey.compared(names) == [(a.name, b.name) for a, b in survey.pairs] == sorted(compared)
    assert compared != sorted(compared)
    assert len(compared) > NUMBER


def test_changed_exposures_are_kept_outside_of_memory_bit_for_bit(paths, tmp_path):
    stored = read_cells(list(paths.values()), GRID, tmp_path)
    patterns = {name: [np.random.default_rng(1).normal(size=(6, 1))] for name in stored.names[::2]}
    twice = [without_patterns(without_patterns(each, patterns), patterns) for each in (stored, in_memory(stored))]
    for one, other in zip(*(each.exposures for each in twice), strict=True):
        assert (one.outline, one.group) == (other.outline, other.group)
        for name in ("mean", "variance", "pixels", "detector_position"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    # The temporary files have no name that could be left behind.
    assert not list(tmp_path.iterdir())


def test_temporary_files_are_closed_with_their_last_reader(paths, tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        without_patterns(read_cells(list(paths.values()), GRID, tmp_path), {})
        gc.collect()
    assert [str(each.message) for each in told] == []


def test_a_file_without_cells_is_an_error_that_names_it(paths, tmp_path):
    whole = next(iter(paths.values())).read_bytes()
    for name, content in {"short": whole[: len(whole) // 2], "empty": b"", "other": b"SIMPLE  = T"}.items():
        path = tmp_path / f"{name}_cells.npz"
        path.write_bytes(content)
        with pytest.raises(CellsFileError, match=f"{name}_cells.npz: no cells of an exposure"):
            read_cells([path], GRID)
    packed = tmp_path / "packed_cells.npz"
    with np.load(next(iter(paths.values()))) as stored:
        np.savez_compressed(packed, **stored)
    with pytest.raises(CellsFileError, match=r"packed_cells.npz: .* compressed"):
        read_cells([packed], GRID)


def test_a_file_that_is_cut_short_later_is_an_error_that_names_it(paths, tmp_path):
    path = tmp_path / "cut_cells.npz"
    path.write_bytes(next(iter(paths.values())).read_bytes())
    survey = read_cells([path], GRID)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CellsFileError, match=r"cut_cells.npz: the file is cut short"):
        _ = survey.exposures[0].mean


@pytest.mark.parametrize("slow_stripes", [False, True])
def test_sources_are_searched_once(paths, slow_stripes, monkeypatch, tmp_path):
    searches, search = [], methods.find_sources

    def counted(survey):
        searches.append(survey)
        return search(survey)

    for module in (methods, measure_module, judgement):
        monkeypatch.setattr(module, "find_sources", counted)
    folder = tmp_path / "out"
    folder.mkdir()
    measure_sky(paths, {}, {}, None, request(slow_stripes=slow_stripes), "sky", folder)
    judge_exposures(paths, GRID, "noise", folder)
    assert len(searches) == 2
