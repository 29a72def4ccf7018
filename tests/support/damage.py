"""Calibrated exposures that are damaged at random: cards, bytes, planes, extensions."""

import io
import random
from pathlib import Path

import numpy as np
from astropy.io import fits

CARD_BYTES = 80
VALUES = ("0", "-1", "1e30", "nan", "'x'", "T", "", "1000000")
HEADER_KINDS = ("value", "lost", "letter", "place", "bytes")
PLANE_KINDS = ("fill", "scale", "part", "type")
EXTENSION_KINDS = ("drop", "twice", "order", "cut")
PLANES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
FILLS = (0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-20, 1e30, -1e30, 4294967295.0)
TYPES = ("f8", "i2", "i4", "u2", "f4")


def damaged(path: Path, seed: int, kinds: tuple[str, ...] = HEADER_KINDS) -> bytes:
    """The content of an exposure's file with damage of one kind, by a seed."""
    chance = random.Random(seed)
    kind = chance.choice(kinds)
    if kind in HEADER_KINDS:
        return _damaged_bytes(path, kind, chance)
    with fits.open(path, memmap=False) as hdus:
        damage = _damaged_plane if kind in PLANE_KINDS else _damaged_extensions
        changed = damage(hdus, kind, chance)
        stream = io.BytesIO()
        changed.writeto(stream, output_verify="ignore")
    content = stream.getvalue()
    return content[: chance.randrange(len(content))] if kind == "cut" else content


def _damaged_bytes(path: Path, kind: str, chance: random.Random) -> bytes:
    """Some cards with other values, lost, altered or in another place; or some bytes anywhere."""
    content = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        spans = [(hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datLoc"]) for hdu in hdus]
    cards = [at for first, last in spans for at in range(first, last, CARD_BYTES) if content[at + 8 : at + 10] == b"= "]
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


def _damaged_plane(hdus: fits.HDUList, kind: str, chance: random.Random) -> fits.HDUList:
    """One plane filled with a value, scaled, filled in part, or in numbers of another type."""
    name = chance.choice([name for name in PLANES if name in hdus])
    data, fill = hdus[name].data, chance.choice(FILLS)
    with np.errstate(all="ignore"):
        if kind == "fill":
            data[:] = np.array(fill).astype(data.dtype)
        elif kind == "scale":
            data[:] = (data * chance.choice((0.0, -1.0, 1e-12, 1e12))).astype(data.dtype)
        elif kind == "part":
            rows, columns = (sorted(chance.sample(range(length + 1), 2)) for length in data.shape)
            data[slice(*rows), slice(*columns)] = np.array(fill).astype(data.dtype)
        else:
            hdus[name].data = np.nan_to_num(data).astype(chance.choice(TYPES))
    return hdus


def _damaged_extensions(hdus: fits.HDUList, kind: str, chance: random.Random) -> fits.HDUList:
    """One extension less, one twice, all in another order, or a file that ends early."""
    extensions = list(hdus[1:])
    if kind == "drop":
        extensions.remove(chance.choice(extensions))
    elif kind == "twice":
        extensions.insert(chance.randrange(len(extensions)), chance.choice(extensions).copy())
    elif kind == "order":
        chance.shuffle(extensions)
    return fits.HDUList([hdus[0], *extensions])
