"""Snowballs: large, round cosmic-ray events whose halos are too faint, pixel by pixel, to be seen as jumps."""

from typing import NamedTuple

from stcal.jump.jump import flag_large_events
from stcal.jump.jump_class import JumpData
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.calibrate.fused.compiled import JUMP, SATURATED, Flags


class LargeEvents(NamedTuple):
    """Parameters in the order of `JumpData.set_snowball_info`, and the largest width."""

    smallest_jump: float
    """Area of connected jumps, pixels."""
    smallest_core: float
    """Area of the saturated core, pixels."""
    growth: float
    """Factor by which the ellipse around the jumps grows."""
    needs_core: bool
    """Whether only ellipses around a saturated core count, except at the edges."""
    smallest_grown_core: float
    """Width of a core that grows, pixels."""
    core_growth: float
    """Pixels that such a core grows by, in width."""
    edge: int
    """Width of the edges, pixels."""
    largest_width: float
    """Of any ellipse, pixels."""


def flag_snowballs(flags: Flags, parameters: LargeEvents) -> int:
    """Flag the halos of snowballs as jumps and grow their saturated cores, in place.

    The work is done by the function of the stcal package itself. It looks at each jump of each group, which takes
    several times as long as all compiled functions together.

    Parameters
    ----------
    flags
        Flags of the groups, with saturation and jumps.
    parameters
        Of a snowball.

    Returns
    -------
    int
        Number of snowballs.
    """
    settings = JumpData(dqflags=pixel)
    settings.set_snowball_info(True, *parameters[:-1])
    settings.max_extended_width = parameters.largest_width
    _, number = flag_large_events(flags[None], int(JUMP), int(SATURATED), settings)
    return int(number)
