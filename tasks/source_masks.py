"""The masks of sources that a survey names for a second pass, and the frames that they reach."""

from collections.abc import Mapping
from typing import NamedTuple

from cosmosaic.cells.source_masks import SETTING, SourceMaskError, reached_frames
from cosmosaic.geometry.grid import Footprint
from cosmosaic.records import Frame, StoredObject
from cosmosaic.storage import store
from tasks.runtime.run import Run


class SourceMask(NamedTuple):
    """A mask of sources for one filter."""

    stored: StoredObject
    frames: tuple[str, ...]
    """Names of the frames that it reaches."""


def source_masks(frames: tuple[Frame, ...], run: Run) -> dict[str, SourceMask]:
    """Read which frames the masks of sources reach that the user names, by band.

    Raises
    ------
    cosmosaic.cells.source_masks.SourceMaskError
        A mask is not fit for use, or this run would write over it.
    FileNotFoundError
        There is no such mask.
    """
    masks = {}
    for band, uri in run.survey.sky.source_masks.items():
        footprints = {frame.name: frame.footprint for frame in frames if frame.band == band}
        if footprints:
            masks[band] = _source_mask(store.absolute_uri(uri), footprints, run)
        else:
            run.note(f"{SETTING}: there is no frame of {band}, whose mask is not used")
    return masks


def _source_mask(uri: str, footprints: Mapping[str, Footprint], run: Run) -> SourceMask:
    if uri.startswith(store.join(run.products, f"{run.survey.name}_")):
        raise SourceMaskError(
            f"{uri}: a product of this survey, which its runs replace, so that each would see another mask; copy it to "
            f"a place of its own and name that in {SETTING}"
        )
    stored = store.checksum(uri, run.work.checksums)
    with store.open_object(uri, stored.size) as stream:
        return SourceMask(stored, reached_frames(stream, uri, footprints))
