"""Attitudes of the telescope: rotations between its axes and the sky."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def attitude_matrix(v2: float, v3: float, ra: float, dec: float, roll: float) -> Floats:
    """Rotation that takes unit vectors from the telescope's axes to the sky.

    Parameters
    ----------
    v2, v3
        Point of the focal plane in arcsec.
    ra, dec
        Direction that falls there, in degrees.
    roll
        Position angle of V3 in that direction, degrees east of north.

    Returns
    -------
    ndarray
        Matrix with shape (3, 3), as `pysiaf.utils.rotations.attitude` defines it (JWST-STScI-001550, section 5).
    """
    point_to_axis = rotation(1, v3 / 3600) @ rotation(2, -v2 / 3600)
    return rotation(2, ra) @ rotation(1, -dec) @ rotation(0, -roll) @ point_to_axis


def rotation(axis: int, degrees: float) -> Floats:
    """Rotation about one of the axes, counter-clockwise seen against it."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix
