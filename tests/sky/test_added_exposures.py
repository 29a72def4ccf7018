"""The sky of an exposure that is added is measured with those around it, as well as with all."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from cosmosaic.cells.survey import CellExposure
from cosmosaic.cells.units import write_cells
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.geometry.sphere import Footprint
from cosmosaic.records import Lattice
from cosmosaic.sky.measure import measure_sky
from cosmosaic.sky.solution import (
    SkyRequest,
    SkySolution,
    SolvedExposure,
    keeping,
    measured_exposures,
    read_solution,
)

SIDE, PLACES, RMS = 96, 24, 0.04
"""Cells along a side, and MJy/sr."""
DITHERS = ((0, 0), (29, 11), (12, 40), (43, 31))
GRID = Lattice(tangent_ra=10.0, tangent_dec=0.0, rotation=0.0, pixel_scale_mas=250.0)
ADDED = f"exposure{2 * PLACES + 1:03}"
"""In the middle of the strip."""


@pytest.fixture(scope="module")
def strip(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, float], dict[str, Footprint]]:
    """Cells, true levels and footprints of a long strip of exposures, four dithers at each place."""
    folder, draw = tmp_path_factory.mktemp("strip"), np.random.default_rng(3)
    y, x = np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE - 0.5] * 2, indexing="ij")
    sky = np.zeros((SIDE + 60, 100 * PLACES + 60))
    rows, columns = np.indices(sky.shape)
    for _ in range(600):
        row, column = draw.uniform(0, sky.shape[0]), draw.uniform(0, sky.shape[1])
        near = np.s_[:, max(int(column) - 20, 0) : int(column) + 20]
        away = np.hypot(rows[near] - row, columns[near] - column)
        sky[near] += draw.exponential(0.05) * np.exp(-away / draw.uniform(0.5, 2.0))
    cells, levels, footprints = {}, {}, {}
    for number in range(len(DITHERS) * PLACES):
        name, (down, along) = f"exposure{number:03}", DITHERS[number % 4]
        row, column = down, along + 95 * (number // 4)
        levels[name] = 0.3 + 0.3 * RMS * draw.standard_normal()
        light = sky[row : row + SIDE, column : column + SIDE] + RMS / 8 * draw.standard_normal((SIDE, SIDE))
        exposure = CellExposure(
            name=name,
            detector="NRCB1",
            group=str(number),
            origin=(row, column),
            mean=levels[name] + light,
            variance=np.full((SIDE, SIDE), (RMS / 8) ** 2),
            pixels=np.full((SIDE, SIDE), 64, np.int32),
            pixel_rms=RMS,
            detector_rows=8 * SIDE,
            detector_position=(x, y),
        )
        cells[name] = write_cells(exposure, folder / f"{name}_cells.npz")
        corners = np.array([(column, row), (column + SIDE, row), (column + SIDE, row + SIDE), (column, row + SIDE)])
        footprints[name] = tuple(map(tuple, pixel_to_sky(GRID, corners.astype(float))))
    return cells, levels, footprints


def measured(cells: dict[str, Path], request: SkyRequest, folder: Path) -> tuple[Table, set[str]]:
    """Levels by a run of the step, and the exposures whose sky was written."""
    target = folder / "out"
    target.mkdir(parents=True)
    made = measure_sky(cells, {}, {}, None, request, "sky", target)
    return Table.read(made.files["table"], format="ascii.ecsv"), set(made.files["exposures"])


@pytest.mark.slow
def test_an_added_exposure_gets_the_level_that_all_exposures_give_it(strip, tmp_path):
    cells, levels, footprints = strip
    asked = SkyRequest(method="overlap", slow_stripes=True, grid=GRID)
    before, _ = measured({name: path for name, path in cells.items() if name != ADDED}, asked, tmp_path / "before")
    earlier = read_solution((tmp_path / "before" / "out" / "sky.ecsv").read_text())
    digests = {one.name: one.sha256 for one in earlier.exposures} | {ADDED: "new"}
    request = keeping(asked, earlier, digests)
    around = measured_exposures(request, footprints)
    assert ADDED in around
    assert len(around) < len(cells) / 2
    local, written = measured({name: cells[name] for name in around}, request, tmp_path / "local")
    whole, _ = measured(cells, request, tmp_path / "whole")
    assert written == cells.keys()
    assert list(local["exposure"]) == list(whole["exposure"]) == sorted(cells)
    stayed = local["exposure"] != ADDED
    assert list(local["level"][stayed]) == list(before["level"])
    added, of_all = local[~stayed], whole[~stayed]
    # Both are a draw of the same noise; what differs is the sky far away.
    assert abs(float(added["level"][0] - of_all["level"][0])) < 0.3 * float(of_all["error"][0])
    others = np.median([level - levels[name] for name, level in zip(before["exposure"], before["level"], strict=True)])
    assert abs(float(added["level"][0]) - levels[ADDED] - others) < 0.015 * RMS


def test_all_are_measured_where_nothing_is_kept_or_nothing_is_near(strip):
    cells, _, footprints = strip
    asked = SkyRequest(method="overlap", slow_stripes=True, grid=GRID)
    assert measured_exposures(asked, footprints) == tuple(cells)
    solution = solution_of([name for name in cells if name != ADDED])
    digests = dict.fromkeys(cells, "0") | {ADDED: "new"}
    for method, everything in (("overlap", False), ("surface", True)):
        request = keeping(
            asked.model_copy(update={"method": method}),
            solution.model_copy(update={"asked": f"{method}, with slow stripes"}),
            digests,
        )
        assert (measured_exposures(request, footprints) == tuple(cells)) == everything
    far = footprints | {ADDED: tuple((ra + 5.0, dec) for ra, dec in footprints[ADDED])}
    assert measured_exposures(keeping(asked, solution, digests), far) == tuple(cells)


def solution_of(names: list[str]) -> SkySolution:
    """A solution that an earlier run found for some exposures."""
    exposures = tuple(
        SolvedExposure(name=name, sha256="0", level=0.3, error=0.001, patterns="", kept=False) for name in names
    )
    return SkySolution(asked="overlap, with slow stripes", method="overlap", exposures=exposures)
