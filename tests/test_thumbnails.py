"""Thumbnails: small, and of the same picture."""

import io

import numpy as np
from PIL import Image

from cosmosaic.thumbnails import THUMBNAIL_PIXELS, thumbnail


def test_a_large_preview_becomes_a_small_picture_of_the_same_sky():
    pixels = np.zeros((1600, 1200, 3), np.uint8)
    pixels[:800] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    small = thumbnail(buffer.getvalue())
    assert len(small) < 40_000
    with Image.open(io.BytesIO(small)) as picture:
        assert max(picture.size) == THUMBNAIL_PIXELS
        assert picture.size[0] / picture.size[1] == 0.75
        assert np.asarray(picture)[:200].mean() > 190
        assert np.asarray(picture)[260:].mean() < 10
