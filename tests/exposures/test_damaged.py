"""A real exposure that is damaged at random is refused by name, or read and published with finite pixels."""

import random
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from real import real

from cosmosaic.drizzle.exposure import ExposureError, light_of, read_exposure, write_flagged
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.headers import RefusalError
from cosmosaic.survey import SkySettings

CARD_BYTES = 80
VALUES = ("0", "-1", "1e30", "nan", "'x'", "T", "", "1000000")


@pytest.fixture(scope="module")
def cal() -> Path:
    return real("cal/*_cal.fits")


def damaged(cal: Path, seed: int) -> bytes:
    """Some cards with other values, lost, altered or in another place; or some bytes anywhere."""
    chance, content = random.Random(seed), bytearray(cal.read_bytes())
    with fits.open(cal) as hdus:
        spans = [(hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datLoc"]) for hdu in hdus]
    cards = [at for first, last in spans for at in range(first, last, CARD_BYTES) if content[at + 8 : at + 10] == b"= "]
    kind = chance.choice(("value", "lost", "letter", "place", "bytes"))
    for _ in range(chance.randint(1, 6)):
        at, other = chance.choice(cards), chance.choice(cards)
        card = slice(at, at + CARD_BYTES)
        if kind == "value":
            content[at + 10 : at + CARD_BYTES] = chance.choice(VALUES).rjust(20).ljust(CARD_BYTES - 10).encode()
        elif kind == "lost":
            content[card] = b" " * CARD_BYTES
        elif kind == "letter":
            content[at + chance.randrange(CARD_BYTES)] = chance.randrange(32, 127)
        elif kind == "place":
            there = slice(other, other + CARD_BYTES)
            content[card], content[there] = content[there], content[card]
        else:
            at, length = chance.randrange(len(content) - CARD_BYTES), chance.randint(1, CARD_BYTES)
            content[at : at + length] = chance.randbytes(length)
    return bytes(content)


def accepted(path: Path) -> bool:
    """Whether an exposure is taken; where it is, its light is finite and its published copy can be read."""
    try:
        describe_exposure(str(path))
        exposure = read_exposure(path, 0.1)
    except (RefusalError, ExposureError) as error:
        if path.name not in str(error):
            raise
        return False
    light = light_of(exposure, "ivm")
    used = light[-1] > 0
    assert used.any()
    assert all(np.isfinite(plane[used]).all() for plane in light)
    target = path.with_name(path.name.replace("_cal", "_crf"))
    write_flagged(path, exposure, 0.1, SkySettings(), target, "COMPLETE")
    with fits.open(target) as hdus:
        assert (np.isfinite(hdus["SCI"].data) <= ((hdus["DQ"].data & 1) == 0)).all()
        assert not np.isinf(hdus["SCI"].data).any()
    return True


def test_damage_is_told_by_name_or_harmless(cal: Path, tmp_path: Path) -> None:
    path, taken = tmp_path / cal.name, []
    for seed in range(60):
        path.write_bytes(damaged(cal, seed))
        taken.append(accepted(path))
    assert 10 < sum(taken) < 50
