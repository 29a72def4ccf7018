"""Thumbnails: small, and of the same picture."""

import numpy as np
from PIL import Image

from cosmosaic.preview.thumbnails import THUMBNAIL_PIXELS, write_thumbnail


def test_a_large_preview_becomes_a_small_picture_of_the_same_sky(tmp_path):
    pixels = np.zeros((1600, 1200, 3), np.uint8)
    pixels[:800] = 200
    Image.fromarray(pixels).save(tmp_path / "field_f150w.png")
    small = write_thumbnail(tmp_path / "field_f150w.png")
    assert small.name == "field_f150w_thumbnail.jpg"
    assert small.stat().st_size < 40_000
    with Image.open(small) as picture:
        assert max(picture.size) == THUMBNAIL_PIXELS
        assert picture.size[0] / picture.size[1] == 0.75
        assert np.asarray(picture)[:200].mean() > 190
        assert np.asarray(picture)[260:].mean() < 10
