"""Sparse normal equations: an exposure overlaps with few others, so most pairs of unknowns have nothing in common."""

from typing import NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, sparray
from scipy.sparse.linalg import SuperLU, splu

Floats = NDArray[np.floating]
Indices = NDArray[np.int32]


class Structure(NamedTuple):
    """Places where the factor ``L`` of a symmetric sparse matrix may be nonzero, by columns, and their order."""

    order: Indices
    start: Indices
    rows: Indices

    @classmethod
    def of(cls, matrix: sparray) -> Self:
        """Find the structure of a matrix from where it is not zero.

        The matrix that is factorised for it, with -1 in these places and a dominant diagonal, cancels nowhere: SuperLU
        does not store elements that happen to be zero.
        """
        places = coo_array(matrix)
        apart = places.row != places.col
        row, column = places.row[apart], places.col[apart]
        size, off = matrix.shape[0], np.full(row.size, -1.0)
        diagonal, here = np.bincount(row, minlength=size) + 1.0, np.arange(size)
        entries = np.concatenate([off, diagonal]), (np.concatenate([row, here]), np.concatenate([column, here]))
        factors = _factorised(csc_array(entries, shape=matrix.shape))
        lower = _lower(factors)
        return cls(factors.perm_c, lower.indptr, lower.indices)


class NormalEquations:
    """A symmetric, positive definite, sparse matrix, factorised.

    Parameters
    ----------
    matrix
        Shape ``(N, N)``.
    structure
        Of this matrix.

    Raises
    ------
    ValueError
        The matrix is singular or not positive definite.
    """

    def __init__(self, matrix: sparray, structure: Structure) -> None:
        self._structure, self._factors = structure, _factorised(csc_array(matrix))
        if not np.array_equal(self._factors.perm_r, structure.order) or np.any(self._factors.U.diagonal() <= 0):
            raise ValueError(f"the normal equations of {matrix.shape[0]} unknowns are not positive definite")

    def solve(self, right: Floats) -> Floats:
        """Solve for one right-hand side, shape ``(N,)``."""
        solution: Floats = self._factors.solve(right)
        return solution

    def variances(self) -> Floats:
        """Return the diagonal of the inverse, shape ``(N,)``.

        The inverse is found, exactly, where the factors may differ from zero, from the last column to the first, at the
        cost of another factorisation (Takahashi's equations; Erisman & Tinney 1975, Commun. ACM 18, 177).
        """
        lower, structure = _lower(self._factors), self._structure
        values = _spread(structure.start, structure.rows, lower.indptr, lower.indices, lower.data)
        diagonal = _inverse_diagonal(structure.start, structure.rows, values, self._factors.U.diagonal())
        if np.isnan(diagonal).any():
            raise ValueError(f"the structure of the normal equations of {diagonal.size} unknowns lacks elements")
        return diagonal[structure.order]


def _factorised(matrix: csc_array) -> SuperLU:
    try:
        # Without pivoting the factors are symmetric: L is U transposed, but for the diagonal.
        return splu(matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError as error:
        raise ValueError(f"the normal equations of {matrix.shape[0]} unknowns have no solution: {error}") from error


def _lower(factors: SuperLU) -> csc_array:
    lower = csc_array(factors.L)
    lower.sort_indices()
    return lower


@njit(cache=True, nogil=True)
def _spread(start: Indices, rows: Indices, own_start: Indices, own_rows: Indices, own: Floats) -> Floats:
    """Put elements in the places of a structure that has at least these, all sorted; NaN if it does not."""
    values = np.zeros(rows.size)
    for column in range(start.size - 1):
        place, last = start[column], start[column + 1]
        for index in range(own_start[column], own_start[column + 1]):
            while place < last and rows[place] < own_rows[index]:
                place += 1
            if place < last and rows[place] == own_rows[index]:
                values[place] = own[index]
            else:
                values[start[column]] = np.nan
                break
    return values


@njit(cache=True, nogil=True)
def _inverse_diagonal(start: Indices, rows: Indices, lower: Floats, pivots: Floats) -> Floats:
    """Diagonal of the inverse ``Z`` of ``L D L^T``, ``L`` given by columns with its diagonal of ones.

    By ``Z = D^-1 L^-1 + (1 - L^T) Z``, whose sums take elements of ``Z`` only from places in the structure of ``L``;
    NaN where that lacks one.
    """
    inverse = np.zeros(lower.size)
    place = np.full(pivots.size, -1, dtype=np.int64)
    sums = np.zeros(pivots.size)
    for column in range(pivots.size - 1, -1, -1):
        diagonal, first = start[column], start[column] + 1
        number = start[column + 1] - first
        for index in range(number):
            place[rows[first + index]] = index
            sums[index] = 0.0
        found = 0
        for index in range(number):
            other, factor = rows[first + index], lower[first + index]
            total = factor * inverse[start[other]]
            for k in range(start[other] + 1, start[other + 1]):
                where = place[rows[k]]
                if where >= 0:
                    found += 1
                    sums[where] += factor * inverse[k]
                    total += lower[first + where] * inverse[k]
            sums[index] += total
        total = 0.0
        for index in range(number):
            inverse[first + index] = -sums[index]
            total += lower[first + index] * sums[index]
            place[rows[first + index]] = -1
        inverse[diagonal] = lower[diagonal] / pivots[column] + total
        if found != number * (number - 1) // 2:
            inverse[diagonal] = np.nan
    return inverse[start[:-1]]
