"""The pixel grid that all mosaics of a survey share."""

from collections.abc import Iterable

from cosmosaic.filters import is_long_wavelength
from cosmosaic.frames import light_filter
from cosmosaic.mosaic.grid import survey_grid
from cosmosaic.records import Frame, MosaicGrid
from cosmosaic.survey import Survey


def survey_grids(frames: Iterable[Frame], survey: Survey) -> dict[str, MosaicGrid]:
    """Return the window of each band: the same sky for all, in larger pixels at long wavelengths where asked.

    A frame that could not be calibrated counts too, so that its repair does not move the grid.
    """
    frames = list(frames)
    footprints = {frame.name: frame.footprint for frame in frames}
    factors = {
        frame.band: survey.grid.long_wavelength_factor if is_long_wavelength(light_filter(frame)) else 1
        for frame in frames
    }
    return {band: survey_grid(survey.grid, footprints, factor) for band, factor in factors.items()}
