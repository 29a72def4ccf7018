"""Headers of FITS files, read by byte range, and their values; every value is checked.

The data are never read: the headers of an exposure move some kilobytes.
"""

import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from astropy.io import fits

BLOCK_BYTES = 2880
CARD_BYTES = 80
MAX_HEADER_BLOCKS = 400
MAX_HDUS = 20
MAX_AXES = 8
BITPIX_VALUES = (8, 16, 32, 64, -32, -64)


class RefusalError(ValueError):
    """A file that cannot take part; the reason continues a sentence that begins with the file's name."""

    def __init__(self, reason: str, uri: str = "") -> None:
        super().__init__(f"{uri} {reason}".strip())
        self.reason = reason


@dataclass(frozen=True)
class FileHeaders:
    """The headers of one exposure's file."""

    primary: fits.Header
    sci: fits.Header
    extensions: tuple[str, ...]
    """Names of all extensions, in their order."""
    asdf: tuple[int, int] | None = None
    """First byte and length of the data of extension ASDF, if there is one."""


def read_header(stream: BinaryIO) -> FileHeaders:
    """Read the primary and the first SCI header of a FITS file, header blocks only.

    The data are skipped by the sizes in the headers, which are never used to allocate memory.

    Parameters
    ----------
    stream
        Seekable; from an object store only the bytes around each header are read.

    Raises
    ------
    RefusalError
        It is not FITS, shorter than its headers claim, damaged, without SCI, or has implausibly large headers.
    """
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        raise RefusalError("is empty")
    primary: fits.Header | None = None
    sci: fits.Header | None = None
    names: list[str] = []
    asdf: tuple[int, int] | None = None
    position = 0
    while position < size and len(names) < MAX_HDUS:
        header, data_start = _header_at(stream, position)
        position = data_start + _data_bytes(header)
        if position > size:
            raise RefusalError(f"is truncated: its headers claim {position} bytes or more, the file has {size}")
        header = _as_image(header)
        name = "PRIMARY" if primary is None else text_of(header, "EXTNAME").upper()
        primary = header if primary is None else primary
        sci = header if sci is None and name == "SCI" else sci
        asdf = (data_start, position - data_start) if name == "ASDF" else asdf
        names.append(name)
    if primary is None or sci is None:
        raise RefusalError(f"has no SCI extension among its {len(names)} HDUs: {shown(', '.join(names))}")
    return FileHeaders(primary=primary, sci=sci, extensions=tuple(names[1:]), asdf=asdf)


def values_of(*headers: fits.Header) -> dict[str, bool | int | float | str]:
    """Return the values in headers by keyword; the first header has precedence.

    Raises
    ------
    RefusalError
        A card cannot be read.
    """
    values: dict[str, bool | int | float | str] = {}
    for card in (card for header in headers for card in header.cards):
        try:
            value = card.value
        except (ValueError, TypeError, LookupError, fits.VerifyError) as error:
            raise RefusalError(
                f"is damaged: its card {shown(card.keyword)} cannot be read; download it again, or repair it "
                f"(astropy's verify('fix'))"
            ) from error
        if isinstance(value, bool | int | float | str):
            values.setdefault(card.keyword, value)
    return values


def value_of(header: fits.Header, keyword: str) -> object:
    """Value of a keyword; None if it is missing or has no value."""
    try:
        value = header[keyword]
    except KeyError:
        return None
    except (ValueError, TypeError, LookupError, fits.VerifyError) as error:
        raise RefusalError(f"is damaged: its card {keyword} cannot be read") from error
    return None if isinstance(value, fits.card.Undefined) else value


def text_of(header: fits.Header, keyword: str) -> str:
    value = value_of(header, keyword)
    return "" if value is None else str(value).strip()


def integer_of(header: fits.Header, keyword: str, default: int | None) -> int:
    value = value_of(header, keyword)
    value = default if value is None else value
    if type(value) is not int:
        raise RefusalError(f"is damaged: {keyword} is {shown(value)}, which is not an integer")
    return value


def size_of(header: fits.Header, keyword: str, default: int | None) -> int:
    value = integer_of(header, keyword, default)
    if not 0 <= value < 1 << 48:
        raise RefusalError(f"is damaged: {keyword} is {shown(value)}")
    return value


def number_of(header: fits.Header, keyword: str) -> float:
    value = value_of(header, keyword)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(float(value)):
        raise RefusalError(f"has {keyword} = {shown(value)}, which is not a finite number")
    return float(value)


def shown(value: object) -> str:
    """Write a value into a message, never at a hostile length."""
    text = repr(value)
    return text if len(text) <= CARD_BYTES else f"{text[:CARD_BYTES]}..."


def _as_image(header: fits.Header) -> fits.Header:
    """Give a compressed image the size that it has unpacked (FITS standard 4.0, section 10.1)."""
    if value_of(header, "ZIMAGE") is not True:
        return header
    image = header.copy()
    for keyword in ("BITPIX", "NAXIS", *(f"NAXIS{axis}" for axis in range(1, MAX_AXES + 1))):
        image.remove(keyword, ignore_missing=True)
        unpacked = value_of(header, f"Z{keyword}")
        if unpacked is not None:
            image[keyword] = unpacked
    return image


def _header_at(stream: BinaryIO, position: int) -> tuple[fits.Header, int]:
    """Read one header block by block; return it and where its data begin."""
    stream.seek(position)
    text = bytearray()
    for _ in range(MAX_HEADER_BLOCKS):
        block = stream.read(BLOCK_BYTES)
        if not text:
            _check_magic(block, position)
        if len(block) < BLOCK_BYTES:
            raise RefusalError(f"is truncated: it ends within the header at byte {position}")
        text += block
        if any(block[i : i + CARD_BYTES].rstrip() == b"END" for i in range(0, BLOCK_BYTES, CARD_BYTES)):
            return _parsed(bytes(text), position), position + len(text)
    raise RefusalError(f"is damaged: the header at byte {position} has no END within {MAX_HEADER_BLOCKS} blocks")


def _check_magic(block: bytes, position: int) -> None:
    if position == 0 and not block.startswith(b"SIMPLE  ="):
        raise RefusalError("is not a FITS file: it does not begin with SIMPLE")
    if position > 0 and not block.startswith(b"XTENSION="[: max(1, len(block))]):
        raise RefusalError(f"is damaged: by its headers a FITS extension begins at byte {position}, but there is none")


def _parsed(text: bytes, position: int) -> fits.Header:
    if not text.isascii():
        raise RefusalError(f"is damaged: the header at byte {position} holds bytes that are not ASCII")
    try:
        return fits.Header.fromstring(text)
    except (ValueError, TypeError, LookupError, fits.VerifyError) as error:
        raise RefusalError(f"is damaged: the header at byte {position} cannot be read: {error}") from error


def _data_bytes(header: fits.Header) -> int:
    """Size of the data unit that a header claims, with its padding (FITS standard 4.0, equation 2)."""
    axes = size_of(header, "NAXIS", None)
    if axes > MAX_AXES:
        raise RefusalError(f"is damaged: NAXIS is {axes}")
    bitpix = integer_of(header, "BITPIX", None)
    if bitpix not in BITPIX_VALUES:
        raise RefusalError(f"is damaged: BITPIX is {bitpix}")
    if axes == 0:
        return 0
    elements = 1
    for axis in range(1, axes + 1):
        elements *= size_of(header, f"NAXIS{axis}", None)
    bits = abs(bitpix) * size_of(header, "GCOUNT", 1) * (size_of(header, "PCOUNT", 0) + elements)
    return -(-bits // (8 * BLOCK_BYTES)) * BLOCK_BYTES
