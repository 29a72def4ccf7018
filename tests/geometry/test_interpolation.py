"""Splines on a lattice give what lies between its points."""

import numpy as np
from scipy.interpolate import RectBivariateSpline

from cosmosaic.geometry.interpolation import LatticeSplines

ROWS, COLUMNS = np.arange(-32.0, 200.0, 32.0), np.arange(-32.0, 300.0, 32.0)


def test_cubic_planes_are_met_exactly() -> None:
    def plane(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (y[:, None] / 100) ** 3 - 2 * (x[None, :] / 100) ** 3 + y[:, None] * x[None, :] / 1e4

    rows, columns = np.array([-32.0, -0.3, 7.0, 159.9, 192.0]), np.array([0.0, 13.7, 288.0])
    (found,) = LatticeSplines(ROWS, COLUMNS, [plane(ROWS, COLUMNS)])(rows, columns)
    np.testing.assert_allclose(found, plane(rows, columns), atol=1e-12)


def test_planes_keep_their_order_and_are_those_of_scipy() -> None:
    planes = np.random.default_rng(1).normal(size=(2, ROWS.size, COLUMNS.size))
    rows, columns = np.arange(120.0), np.arange(250.0) + 0.25
    for found, plane in zip(LatticeSplines(ROWS, COLUMNS, planes)(rows, columns), planes, strict=True):
        np.testing.assert_allclose(found, RectBivariateSpline(ROWS, COLUMNS, plane)(rows, columns), atol=1e-12)
