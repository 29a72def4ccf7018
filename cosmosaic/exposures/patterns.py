"""Light that varies over one exposure: values at evenly spaced nodes of the detector, spread over cells or pixels.

Nodes lie in the middles of equal parts of the detector: 64 by 1 are stripes along rows, 2 by 2 hold a plane.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Patterns = dict[str, list[Floats]]
"""Patterns of exposures by their names; those that have none may be missing."""

DIGITS = 8
"""Decimals of the values in MJy/sr that are kept, a ten-thousandth of a pixel's noise."""


def pattern_at(nodes: Floats, x: Floats, y: Floats) -> Floats:
    """Interpolate between nodes, linearly, and extrapolate a plane beyond the outermost.

    Parameters
    ----------
    nodes
        Shape ``(rows, columns)``.
    x, y
        Positions from -0.5 to 0.5 over the detector, any shape.
    """
    padded = np.pad(nodes, [(1, 1) if size > 1 else (0, 0) for size in nodes.shape], mode="reflect", reflect_type="odd")
    places = [
        (position + 0.5) * size - 0.5 + (size > 1) if size > 1 else np.zeros_like(position)
        for position, size in zip((y, x), nodes.shape, strict=True)
    ]
    from scipy import ndimage  # not at the top, which the flow's own process imports

    return ndimage.map_coordinates(padded, places, order=1, mode="nearest")


def pattern_image(patterns: Sequence[Floats], usable: Flags) -> NDArray[np.float32]:
    """Spread patterns over an exposure's pixels, with zero mean over the usable ones, so that levels do not change."""
    image = np.zeros(usable.shape)
    for nodes in patterns:
        rows, columns = (_weights(size, pixels) for size, pixels in zip(nodes.shape, usable.shape, strict=True))
        image += rows.T @ nodes @ columns
    return (image - image[usable].mean()).astype(np.float32)


def _weights(size: int, pixels: int) -> Floats:
    """Weight of each node along one side of the detector for each pixel, shape ``(size, pixels)``."""
    position = (np.arange(pixels) + 0.5) / pixels - 0.5
    return np.stack([pattern_at(node[:, None], np.zeros(pixels), position) for node in np.eye(size)])


def patterns_text(patterns: Sequence[Floats]) -> str:
    """Write an exposure's patterns as JSON."""
    return json.dumps([np.round(nodes, DIGITS).tolist() for nodes in patterns])


class ExposureSky(NamedTuple):
    """Sky level and patterns of one exposure."""

    level: float = 0.0
    """MJy/sr."""
    patterns: Sequence[Floats] = ()
    """Variation over the exposure, MJy/sr."""


def write_exposure_sky(level: float, patterns: str, path: Path) -> Path:
    """Write the level of an exposure (MJy/sr) and the result of `patterns_text`, which may be empty."""
    path.write_text(f'{{"level": {json.dumps(level)}, "patterns": {patterns or "[]"}}}')
    return path


def read_exposure_sky(path: Path | None) -> ExposureSky:
    """Read the file of `write_exposure_sky`; without a file the sky is zero."""
    if path is None:
        return ExposureSky()
    sky = json.loads(path.read_text())
    return ExposureSky(sky["level"], [np.array(nodes, dtype=float) for nodes in sky["patterns"]])
