"""Cubic splines through values that are known on a lattice of an image's pixels."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline, RectBivariateSpline

FloatArray = NDArray[np.float64]

LATTICE_STEP_PIXELS = 32
"""Distance of the lattice's points; a NIRCam distortion is then met to 1e-6 px."""
DEGREE = 3


class LatticeSplines:
    """Interpolates planes between the points of a lattice.

    Parameters
    ----------
    rows, columns
        Pixels of the lattice, ascending, at least four each.
    planes
        Values on the lattice, each of shape ``(len(rows), len(columns))``.
    """

    def __init__(self, rows: ArrayLike, columns: ArrayLike, planes: Iterable[FloatArray]) -> None:
        self._splines = [RectBivariateSpline(rows, columns, plane, kx=DEGREE, ky=DEGREE, s=0) for plane in planes]

    def __call__(self, rows: ArrayLike, columns: ArrayLike) -> list[FloatArray]:
        """Evaluate all planes where rows and columns cross, within the lattice.

        As a product of sparse matrices, many times faster than the splines themselves.

        Returns
        -------
        list of ndarray
            One of shape ``(len(rows), len(columns))`` for each plane.
        """
        return [_evaluated(spline, (np.asarray(rows, float), np.asarray(columns, float))) for spline in self._splines]


def _evaluated(spline: RectBivariateSpline, places: tuple[FloatArray, FloatArray]) -> FloatArray:
    knots_y, knots_x, coefficients = spline.tck
    rows, columns = (
        BSpline.design_matrix(place, knots, DEGREE) for place, knots in zip(places, (knots_y, knots_x), strict=True)
    )
    matrix = np.reshape(coefficients, (rows.shape[1], columns.shape[1]))
    return np.asarray(rows @ (columns @ matrix.T).T)
