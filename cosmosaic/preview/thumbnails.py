"""Thumbnails of previews, shown where the full pictures cannot be reached."""

from pathlib import Path

from PIL import Image

THUMBNAIL_PIXELS = 480
JPEG_QUALITY = 80
THUMBNAIL_SUFFIX = "_thumbnail.jpg"


def write_thumbnail(png: Path) -> Path:
    """Write a preview as a JPEG of at most 480 pixels on its longer side, some 30 kB, beside it."""
    with Image.open(png) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    target = png.with_name(png.stem + THUMBNAIL_SUFFIX)
    small.save(target, format="JPEG", quality=JPEG_QUALITY)
    return target
