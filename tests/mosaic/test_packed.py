"""Packed planes come back to the last bit, whichever part is read."""

import numpy as np
import pytest

from cosmosaic.drizzle.packed import STRIP_ROWS, Placed, open_planes, strips, write_planes
from cosmosaic.geometry.windows import Box


@pytest.fixture
def planes():
    """Numbers of several types, NaN with a payload and a negative zero among them."""
    draw = np.random.default_rng(3)
    floats = draw.normal(0.3, 0.05, (150, 37)).astype(np.float32)
    floats[:20] = np.nan
    floats[30, 3:6] = np.array([0x7FC12345, 0x80000000, 0xFF800000], np.uint32).view(np.float32)
    return [floats, floats.astype(">f4"), (floats > 0.3).astype(np.uint8), draw.integers(0, 1 << 31, (150, 37))]


@pytest.mark.parametrize("bottom", [0, -1, 63, -200])
def test_every_part_has_the_bits_that_were_written(tmp_path, planes, bottom):
    boxes = [Box(-5 + number, bottom - number, 37, 150) for number in range(4)]
    path = write_planes(map(Placed, boxes, planes), tmp_path / "a_sums.packed")
    for packed, box, plane in zip(open_planes(path), boxes, planes, strict=True):
        assert packed.box == box
        x, y = box.x, box.y
        for part in (box, Box(x + 5, y + 1, 3, 130), Box(x + 36, y + 149, 1, 1), Box(x, y + 60, 9, 9), *strips(box)):
            found = packed.read(part)
            assert found.dtype == plane.dtype
            assert found.tobytes() == plane[part.within(box)].tobytes()


@pytest.mark.parametrize("box", [Box(3, 4, 0, 0), Box(3, 4, 0, 7), Box(3, 4, 7, 0)])
def test_an_empty_rectangle_is_kept(tmp_path, box):
    nothing = Placed(box, np.zeros((box.height, box.width), np.float32))
    (packed,) = open_planes(write_planes([nothing], tmp_path / "a.packed"))
    assert packed.box == box
    assert packed.read(box).shape == (box.height, box.width)


def test_strips_of_overlapping_rectangles_end_at_the_same_rows():
    one, other = (list(strips(Box(0, bottom, 5, height))) for bottom, height in ((-70, 300), (7, 500)))
    cuts = [{strip.y for strip in each[1:]} for each in (one, other)]
    assert all(cut % STRIP_ROWS == 0 for cut in cuts[0] | cuts[1])
    assert sum(strip.height for strip in one) == 300
    assert [strip.y for strip in one[1:]] == [strip.y + strip.height for strip in one[:-1]]


def test_what_is_nowhere_observed_takes_no_room(tmp_path):
    blank = np.full((2000, 1000), np.nan, np.float32)
    path = write_planes([Placed(Box(0, 0, 1000, 2000), blank)], tmp_path / "a.packed")
    assert path.stat().st_size < blank.nbytes / 200


def test_noise_in_single_precision_takes_less_room(tmp_path):
    noise = np.random.default_rng(0).normal(0.3, 0.01, (1000, 1000)).astype(np.float32)
    path = write_planes([Placed(Box(0, 0, 1000, 1000), noise)], tmp_path / "a.packed")
    assert path.stat().st_size < 0.9 * noise.nbytes


def test_only_the_strips_that_are_asked_for_are_unpacked(tmp_path, planes):
    path = write_planes([Placed(Box(0, 0, 37, 150), planes[0])], tmp_path / "a.packed")
    content = bytearray(path.read_bytes())
    content[:8] = b"damaged!"
    path.write_bytes(content)
    (packed,) = open_planes(path)
    assert np.array_equal(packed.read(Box(0, 64, 37, 86)), planes[0][64:], equal_nan=True)
    with pytest.raises(OSError, match="Lz4"):
        packed.read(Box(0, 63, 37, 2))
