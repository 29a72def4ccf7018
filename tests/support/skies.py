"""Small surveys on the lattice of cells, made without files."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cosmosaic.cells.survey import CellExposure, CellSurvey
from cosmosaic.geometry.windows import CELL_PIXELS
from cosmosaic.records import MosaicGrid

SIDE = 96
"""Cells along each side of an exposure."""
PIXEL_RMS = 0.04
OFFSETS = ((0, 0), (9, 25), (31, 11), (80, 3), (70, 90), (4, 84), (89, 75), (62, 60))
GRID = MosaicGrid(
    tangent_ra=10.0, tangent_dec=0.0, rotation=0.0, pixel_scale_mas=250.0, crpix=(95.5, 95.5), shape=(192, 192)
)


def make_survey(
    levels: NDArray[np.floating],
    *,
    seed: int = 1,
    galaxies: int = 60,
    noise: float = 1.0,
    light: NDArray[np.floating] | float = 0.0,
    own: Callable[[int, NDArray[np.floating], NDArray[np.floating]], NDArray[np.floating]] | None = None,
) -> CellSurvey:
    """Exposures of one sky with given levels, and ``light`` in it besides, MJy/sr on the lattice.

    ``own(number, x, y)`` adds light of an exposure's own; x and y run from -0.5 to 0.5 over the detector.
    """
    sky = scene(np.random.default_rng(seed), galaxies) + light
    draw = np.random.default_rng([seed, 1])
    y, x = np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE - 0.5] * 2, indexing="ij")
    sigma = PIXEL_RMS / CELL_PIXELS
    exposures = []
    for number, (level, origin) in enumerate(zip(levels, OFFSETS, strict=False)):
        window = tuple(slice(start, start + SIDE) for start in origin)
        mean = level + sky[window] + noise * sigma * draw.standard_normal((SIDE, SIDE))
        if own is not None:
            mean = mean + own(number, x, y)
        exposures.append(
            CellExposure(
                name=f"exposure{number}",
                detector=f"NRCB{number % 2 + 1}",
                group=str(number // 2),
                origin=origin,
                mean=mean,
                variance=np.full(mean.shape, sigma**2),
                pixels=np.full(mean.shape, CELL_PIXELS**2, dtype=np.int32),
                pixel_rms=PIXEL_RMS,
                detector_rows=SIDE * CELL_PIXELS,
                detector_position=(x, y),
            )
        )
    return CellSurvey(GRID, tuple(exposures))


def scene(draw: np.random.Generator, galaxies: int) -> NDArray[np.floating]:
    """Galaxies of all brightnesses, and one broad one."""
    y, x = np.indices(GRID.shape)
    sky = np.zeros(GRID.shape)
    for _ in range(galaxies):
        x0, y0 = draw.uniform(0, GRID.shape[0], 2)
        sky += draw.exponential(0.05) * np.exp(-np.hypot(x - x0, y - y0) / draw.uniform(0.5, 2.0))
    if galaxies:
        sky += 0.1 * np.exp(-np.hypot(x - 60, y - 60) / 6)
    return sky
