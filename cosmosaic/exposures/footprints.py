"""Where on the sky an exposure lies."""

from pathlib import Path

import numpy as np

from cosmosaic.exposures.headers import FrameError, read_header, shown, text_of

Corners = tuple[tuple[float, float], ...]
"""(RA, Dec) in degrees, ICRS, right ascensions from 0 to 360."""


def region_corners(region: str) -> Corners:
    """Take the corners out of the value of S_REGION.

    Raises
    ------
    FrameError
        It is no polygon in ICRS.
    """
    words = region.split()
    try:
        numbers = [float(word) for word in words[2:]]
    except ValueError:
        numbers = []
    is_polygon = [word.upper() for word in words[:2]] == ["POLYGON", "ICRS"] and np.isfinite(numbers).all()
    if not is_polygon or len(numbers) < 6 or len(numbers) % 2:
        raise FrameError(f"has S_REGION = {shown(region)}, which is no 'POLYGON ICRS  ra dec ra dec ra dec ...'")
    return tuple((ra % 360.0, dec) for ra, dec in zip(numbers[::2], numbers[1::2], strict=True))


def read_footprint(path: Path) -> Corners:
    """Read the corners of an exposure from its file's S_REGION.

    Raises
    ------
    FrameError
        It is no polygon.
    """
    with path.open("rb") as stream:
        region = text_of(read_header(stream).sci, "S_REGION")
    try:
        return region_corners(region)
    except FrameError as error:
        raise FrameError(error.reason, str(path)) from error
