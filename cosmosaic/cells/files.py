"""The files that cells lie in."""

from collections.abc import Iterable

from cosmosaic.steps.files import File

READING_GB = 0.37
"""Memory of a process that measures cells, without any: 0.32 to 0.35 by the version of Python, and now and then, when
more pages of the libraries are mapped, 0.05 more."""
LEAST_GB = 3.0
"""Memory for a full frame at the peak of other steps."""
BYTES_IN_MEMORY = 6.2
"""Memory for a byte of a file of cells: at their peak, steps that hold exposures take 6.1 to 6.7 MB for a full frame of
1.1 MB."""
HELD, HELD_GB = 32, 0.003
"""Neighbouring exposures that are compared at a time (twice `cosmosaic.cells.survey.TOGETHER`), and memory for one."""
EXPOSURE_GB = 0.0001
"""Memory for what is kept of each exposure, and of its overlaps, without its cells."""
LATTICE_BYTES = 50.0
"""Memory for a cell of the window that all exposures of a filter lie in, for their stack and the masks found in it: the
verdict takes 49, the sky less."""


class Cells(File, suffix=".npz"):
    """Means over cells of one exposure."""


class SourceMaskImage(File):
    """A user's mask of sources, 0 on the sky."""


def cells_gb(cells: Iterable[Cells]) -> float:
    """Return the memory in GB of a process that holds some exposures' cells at once."""
    return READING_GB + BYTES_IN_MEMORY * sum(one.stored.size for one in cells) / 1e9


def joint_gb(exposures: int, window_cells: int) -> float:
    """Return the memory in GB of a process that measures exposures together and reads their cells one by one.

    Parameters
    ----------
    exposures
        Number of exposures.
    window_cells
        Number of cells of the window that holds them all.
    """
    held_gb = HELD_GB * min(exposures, HELD)
    return READING_GB + held_gb + EXPOSURE_GB * exposures + LATTICE_BYTES * window_cells / 1e9


def needed_jointly(exposures: int, window_cells: int) -> float:
    """Return the memory in GB of a step that measures exposures together, and may read the pixels of one."""
    return max(LEAST_GB, joint_gb(exposures, window_cells))


def needed_for(cells: Iterable[Cells]) -> float:
    """Return the memory in GB of a step that holds some exposures' cells at once, and may read one exposure."""
    return max(LEAST_GB, cells_gb(cells))
