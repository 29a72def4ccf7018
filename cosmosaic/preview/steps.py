"""Pictures of mosaics, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass

from cosmosaic.mosaic.steps import Mosaic
from cosmosaic.steps.declaration import Outputs, Step, surviving
from cosmosaic.steps.files import File


class Preview(File, suffix=".png", kind="preview"):
    """A picture of a mosaic."""


class WeightPreview(File, suffix="_wht.png", kind="preview"):
    """A picture of a mosaic's weight."""


class ColourPicture(File, suffix="_colour.png", kind="composite"):
    """The filters of a survey in colour."""


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

    mosaics: Mapping[str, Mosaic] = surviving()
    """By filter."""
    stem: str
