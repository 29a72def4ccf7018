"""The files of pictures that a survey publishes."""

from collections.abc import Mapping
from pathlib import Path

from cosmosaic.preview.composite import write_colour_composite
from cosmosaic.preview.mosaic import write_preview, write_weight_preview
from cosmosaic.preview.thumbnails import write_thumbnail
from cosmosaic.steps.result import Made


def draw_mosaic(mosaic: Path, stem: str, folder: Path) -> Made:
    """Draw a mosaic (``_i2d``) and its weight, and a thumbnail of it."""
    picture, weight = folder / f"{stem}.png", folder / f"{stem}_wht.png"
    write_preview(mosaic, picture)
    write_weight_preview(mosaic, weight)
    return Made(preview=picture, weight=weight, thumbnail=write_thumbnail(picture))


def draw_colours(mosaics: Mapping[str, Path], stem: str, folder: Path) -> Made:
    """Draw mosaics of several filters as one colour picture, and a thumbnail of it."""
    picture = folder / f"{stem}.png"
    write_colour_composite(mosaics, picture)
    return Made(picture=picture, thumbnail=write_thumbnail(picture))
