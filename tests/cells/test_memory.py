"""Steps that measure exposures together ask for the memory that they take."""

import numpy as np
import pytest

from cosmosaic.cells.files import Cells, cells_gb, joint_gb
from cosmosaic.cells.survey import CellExposure
from cosmosaic.cells.units import write_cells
from cosmosaic.comparison.steps import CompareMethods
from cosmosaic.processes import workers
from cosmosaic.records import Lattice
from cosmosaic.sky.solution import SkyRequest
from cosmosaic.sky.steps import MeasureSky
from cosmosaic.steps.execution import execute
from cosmosaic.storage import store
from cosmosaic.verdict.steps import JudgeExposures, JudgeTiles

SIDE, EXPOSURES, RMS = 256, 12, 0.05
"""Cells along a side of a full frame, and MJy/sr."""
GRID = Lattice(tangent_ra=150.1, tangent_dec=2.2, rotation=0.0, pixel_scale_mas=250.0)
WINDOW_CELLS = (SIDE + 115) * (SIDE + 107 + 268 * (EXPOSURES // 4 - 1))
SHARE_GB = 3.0
"""Memory of a child process by default."""
COSMOS_WEB = 5152, 113_000_000
"""Exposures in F115W, and cells of the window that holds them."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> dict[str, Cells]:
    """Full frames at places in a row, four dithers each."""
    folder, y_and_x = tmp_path_factory.mktemp("cells"), (np.arange(SIDE) + 0.5) / SIDE - 0.5
    y, x = np.meshgrid(y_and_x, y_and_x, indexing="ij")
    draw, made = np.random.default_rng(1), {}
    for number in range(EXPOSURES):
        name, (row, column) = f"exposure{number:03}", [(0, 0), (79, 28), (31, 107), (115, 84)][number % 4]
        exposure = CellExposure(
            name=name,
            detector="NRCB1",
            group=str(number),
            origin=(row, column + 268 * (number // 4)),
            mean=0.3 + RMS / 8 * draw.standard_normal((SIDE, SIDE)),
            variance=(RMS / 8) ** 2 * draw.uniform(0.9, 1.1, (SIDE, SIDE)),
            pixels=np.full((SIDE, SIDE), 64, np.int32),
            pixel_rms=RMS,
            detector_rows=2048,
            detector_position=(x, y),
        )
        path = write_cells(exposure, folder / f"{name}_cells.npz")
        made[name] = Cells(store.publish(path, str(folder / "store" / path.name)))
    return made


def sky(cells, window_cells=WINDOW_CELLS) -> MeasureSky:
    request = SkyRequest(method="overlap", slow_stripes=True, grid=GRID, missing=(), zero="faintest")
    return MeasureSky(
        cells=cells,
        masked={},
        exposures={},
        levels=None,
        request=request,
        stem="small_f150w_sky",
        earlier=None,
        window_cells=window_cells,
        footprints={},
    )


def verdict(cells, window_cells=WINDOW_CELLS) -> JudgeExposures:
    return JudgeExposures(cells=cells, grid=GRID, when="before", window_cells=window_cells)


def taken_by_a_new_process(step, folder) -> float:
    plan = workers.plan_workers(1, SHARE_GB, 300.0, None, {})
    try:
        return execute(step, str(folder), plan).peak_mb / 1000
    finally:
        workers.stop_workers()


@pytest.mark.slow
@pytest.mark.parametrize("step_of", [sky, verdict])
def test_what_is_asked_for_is_a_little_more_than_what_is_taken(cells, step_of, tmp_path):
    step = step_of(cells)
    # Pages of libraries that happen to be mapped count too: the smaller of two processes is the step's own.
    taken_gb = min(taken_by_a_new_process(step, tmp_path / name) for name in ("once", "twice"))
    assert taken_gb < joint_gb(EXPOSURES, WINDOW_CELLS) < 1.3 * taken_gb
    assert step.needed_gb > taken_gb


def test_exposures_that_are_held_ask_for_more_than_a_share(cells):
    (one, *_) = cells.values()
    many = {str(number): one for number in range(1000)}
    assert JudgeTiles(before=many, after=many, judgements={}, tiles=()).needed_gb > 2 * SHARE_GB
    assert cells_gb(many.values()) > 2 * SHARE_GB
    assert sky(cells).needed_gb <= SHARE_GB


def test_exposures_that_are_read_one_by_one_ask_for_little(cells):
    (one, *_) = cells.values()
    exposures, window_cells = COSMOS_WEB
    many = {str(number): one for number in range(exposures)}
    compared = CompareMethods(cells=many, exposures={}, methods=(), grid=GRID, stem="sky", window_cells=window_cells)
    for step in (sky(many, window_cells), verdict(many, window_cells), compared):
        # At least the sums of the stack and of its weights count, and a machine with 8 GB suffices.
        assert 8 * 2 * window_cells / 1e9 < step.needed_gb < 8
        assert cells_gb(many.values()) > 4 * step.needed_gb
