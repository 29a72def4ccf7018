"""The files that cells lie in."""

from collections.abc import Iterable

from cosmosaic.steps.files import File

READING_GB = 0.35
"""Memory of a process that measures cells, without any."""
LEAST_GB = 3.0
"""Memory for a full frame at the peak of other steps."""
BYTES_IN_MEMORY = 6.2
"""Memory for a byte of a file of cells: at their peak, steps that hold all exposures of a filter take 6.1 to 6.7 MB for
a full frame of 1.1 MB."""


class Cells(File, suffix=".npz"):
    """Means over cells of one exposure."""


class SourceMaskImage(File):
    """A user's mask of sources, 0 on the sky."""


def cells_gb(cells: Iterable[Cells]) -> float:
    """Return the memory in GB of a process that holds some exposures' cells at once."""
    return READING_GB + BYTES_IN_MEMORY * sum(one.stored.size for one in cells) / 1e9


def needed_for(cells: Iterable[Cells]) -> float:
    """Return the memory in GB of a step that holds some exposures' cells at once, and may read one exposure."""
    return max(LEAST_GB, cells_gb(cells))
