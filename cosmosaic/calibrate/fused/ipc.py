"""Capacitance between pixels: `ipc_convolve` of ``jwst.ipc.ipc_corr``."""

import numpy as np
from numpy.typing import NDArray

from cosmosaic.calibrate.fused.compiled import Image, Ramp, compiled


def correct_ipc(ramp: Ramp, kernel: Image, borders: tuple[int, int, int, int]) -> None:
    """Convolve each group with the kernel, in place.

    Parameters
    ----------
    ramp
        DN, shape ``(groups, ny, nx)``.
    kernel
        Shape ``(ky, kx)``, or ``(ky, kx, ny, nx)`` where it differs between pixels.
    borders
        Rows of reference pixels below and above, columns of them left and right: they take no part.
    """
    below, above, left, right = borders
    ny, nx = ramp.shape[1:]
    inside = (slice(below, ny - above), slice(left, nx - right))
    each = kernel if kernel.ndim == 4 else np.broadcast_to(kernel[:, :, None, None], (*kernel.shape, ny, nx))
    for plane in ramp:
        section = plane[inside]
        section[:] = _convolved(section, each[:, :, inside[0], inside[1]])


@compiled
def _convolved(plane: Image, kernel: NDArray[np.float32]) -> Image:
    ky, kx = kernel.shape[:2]
    ny, nx = plane.shape
    middle_y, middle_x = ky // 2, kx // 2
    total = np.zeros((ny, nx), dtype=np.float32)
    for y in range(ny):
        for j in range(ky):
            for i in range(kx):
                # The middle is added last, as jwst does: sums of floats depend on their order.
                if (j == middle_y and i == middle_x) or not 0 <= y + middle_y - j < ny:
                    continue
                shift = middle_x - i
                for x in range(max(0, -shift), min(nx, nx - shift)):
                    total[y, x] += kernel[j, i, y, x] * plane[y + middle_y - j, x + shift]
        for x in range(nx):
            total[y, x] += kernel[middle_y, middle_x, y, x] * plane[y, x]
    return total
