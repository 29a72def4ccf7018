"""Compilation of this package's functions: once per machine, divisions by zero as in C, no fast mathematics."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels.dqflags import pixel

Function = TypeVar("Function", bound=Callable[..., Any])

Ramp = NDArray[np.float32]
"""DN, shape ``(groups, ny, nx)``."""
Flags = NDArray[np.uint8]
"""Flags of the groups, shape ``(groups, ny, nx)``."""
Image = NDArray[np.float32]
PixelFlags = NDArray[np.uint32]
"""Flags of the pixels, shape ``(ny, nx)``."""
Mask = NDArray[np.bool_]

DO_NOT_USE, SATURATED, JUMP, PERSISTENCE = (
    np.uint8(pixel[name]) for name in ("DO_NOT_USE", "SATURATED", "JUMP_DET", "PERSISTENCE")
)
AD_FLOOR = np.uint8(pixel["AD_FLOOR"])


def compiled(function: Function) -> Function:
    """Compile a function; it may be called without the interpreter's lock."""
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))
