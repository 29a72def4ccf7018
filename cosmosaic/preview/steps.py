"""Pictures of mosaics, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass

from cosmosaic.geometry.windows import WHOLE
from cosmosaic.mosaic.steps import AssembledMosaic, Mosaic
from cosmosaic.steps.declaration import Job, Outputs, Step, surviving
from cosmosaic.steps.files import File


class Preview(File, suffix=".png", kind="preview"):
    """A picture of a mosaic."""


class WeightPreview(File, suffix="_wht.png", kind="preview"):
    """A picture of a mosaic's weight."""


class ColourPicture(File, suffix="_colour.png", kind="composite"):
    """The filters of a window in colour."""


class Thumbnail(File, suffix="_thumbnail.jpg"):
    """A small picture for the UI."""


@dataclass(frozen=True)
class DrawnMosaic(Outputs):
    """Pictures of one mosaic."""

    preview: Preview
    weight: WeightPreview
    thumbnail: Thumbnail


@dataclass(frozen=True, kw_only=True)
class DrawMosaic(Step[DrawnMosaic]):
    """Draw a mosaic and its weight."""

    title = "Preview"
    version = 3
    function = "cosmosaic.preview.draw:draw_mosaic"
    per = "mosaic"
    written = 0.3

    mosaic: Mosaic
    stem: str


@dataclass(frozen=True)
class DrawnColours(Outputs):
    """The colour picture."""

    picture: ColourPicture
    thumbnail: Thumbnail


@dataclass(frozen=True, kw_only=True)
class DrawColours(Step[DrawnColours]):
    """Draw the mosaics of a window in all filters as one colour picture."""

    title = "Composite"
    version = 4
    function = "cosmosaic.preview.draw:draw_colours"
    per = "survey"
    written = 0.3

    mosaics: Mapping[str, Mosaic] = surviving()
    """By filter."""
    stem: str


def draw_colours(bands: Mapping[str, Mapping[str, AssembledMosaic]], job: Job) -> dict[str, DrawnColours]:
    """Submit the colour picture of each window.

    Parameters
    ----------
    bands
        The mosaics of each filter by window.
    job
        The run.

    Returns
    -------
    pictures : dict
        By their labels in the run.
    """
    pictures = {}
    for tile in dict.fromkeys(tile for mosaics in bands.values() for tile in mosaics):
        here = {band: mosaics[tile].mosaic for band, mosaics in bands.items() if tile in mosaics}
        of_tile = "" if tile == WHOLE else f" {tile}"
        stem = f"{job.survey.name}{of_tile.replace(' ', '_')}_colour"
        label = f"{', '.join(here)}{of_tile}"
        pictures[f"colour picture{of_tile}"] = job.submit(DrawColours(mosaics=here, stem=stem), label)
    return pictures
