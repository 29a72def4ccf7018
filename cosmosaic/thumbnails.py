"""Small pictures of previews, to show where the full ones cannot be reached."""

import io

from PIL import Image

THUMBNAIL_PIXELS = 480
JPEG_QUALITY = 80


def thumbnail(png: bytes) -> bytes:
    """Return a preview as a JPEG of at most 480 pixels on its longer side, some 30 kB."""
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
