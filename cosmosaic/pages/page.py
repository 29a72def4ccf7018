"""An HTML page from a template, whole in itself."""

import io
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

WIDEST_PIXELS = 1100
JPEG_QUALITY = 72


class Picture(NamedTuple):
    """A picture as a page holds it."""

    width: int
    height: int
    source: str
    """A ``data:`` address of the JPEG."""


def write_page(package: str, template: str, path: Path, **facts: object) -> Path:
    """Write a page from a template of a package; it may extend ``base.html`` of this one.

    Parameters
    ----------
    package
        Name of the package whose folder ``templates`` holds the template.
    template
        Its file name.
    path
        The page; written in UTF-8.
    **facts
        Values for the template; all text is escaped.

    Raises
    ------
    jinja2.UndefinedError
        The template asks for a fact that is not given.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("cosmosaic.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    path.write_text(environment.get_template(template).render(facts), encoding="utf-8")
    return path


def number(value: float | None) -> str:
    """Return a value to two decimals; a dash where there is none."""
    return f"{value:.2f}" if value is not None and np.isfinite(value) else "-"


def embedded(path: Path) -> Picture:
    """Return an image as a picture of at most 1100 pixels in width."""
    with Image.open(path) as image:
        return picture(image)


def picture(image: Image.Image) -> Picture:
    """Return an image in memory as a picture of at most 1100 pixels in width."""
    small = image.convert("RGB")
    small.thumbnail((WIDEST_PIXELS, 2 * WIDEST_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return Picture(small.width, small.height, f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}")
