"""Rows of a catalogue that stand out, by stated rules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosmosaic.catalog.flags import CatalogFlag

Floats = NDArray[np.float64]

HANDFUL = 4
"""Rows of each rule."""
FAULTY = (
    CatalogFlag.EDGE | CatalogFlag.NO_DATA | CatalogFlag.TRUNCATED | CatalogFlag.KRON_UNDEFINED | CatalogFlag.SATURATED
)
"""Flags of rows whose fluxes and shapes are in doubt; they are odd if bright, and count for no other rule on shapes."""
SURE_SNR = 10.0
"""Least S/N for odd shapes and colours."""
LIMIT_SNR = 3.0
"""A flux below this S/N counts as this many errors in colours, which are limits then."""
NEGATIVE_SNR = -5.0
"""S/N of a flux that noise does not explain."""
SHARP = 1.15
"""Concentration of rows that are sharper than a star beyond its scatter."""
FEWEST = 10
"""Rows that a median of sizes or colours rests on, at least."""


class Odd(NamedTuple):
    """A row that stands out."""

    rule: str
    row: int
    score: float
    reason: str


@dataclass(frozen=True)
class Rows:
    """Columns of the catalogue of a window: shape ``(n,)`` or, by filter in the order of wavelengths, ``(n, m)``."""

    bands: tuple[str, ...]
    flux: Floats
    """nJy; NaN where null, as all numbers."""
    error: Floats
    magnitude: Floats
    radius: Floats
    concentration: Floats
    peak_snr: Floats
    flags: NDArray[np.int64]

    @property
    def snr(self) -> Floats:
        """S/N of the total fluxes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.error > 0, self.flux / self.error, np.nan)

    @property
    def brightest(self) -> Floats:
        """The least magnitude of each row; NaN if it has none."""
        least = np.min(np.where(np.isfinite(self.magnitude), self.magnitude, np.inf), axis=1, initial=np.inf)
        return np.where(np.isfinite(least), least, np.nan)


def odd_rows(rows: Rows) -> list[Odd]:
    """Return a handful of rows for each rule, those that stand out most first.

    A row can stand out by several rules. Sizes and colours are compared with the medians of the same rows.
    """
    found = []
    for rule, score, reason in _scores(rows):
        known = np.flatnonzero(np.isfinite(score))
        first = known[np.argsort(-score[known], kind="stable")[:HANDFUL]]
        found += [Odd(rule, int(row), float(score[row]), reason(int(row))) for row in first]
    return found


Scored = tuple[str, Floats, Callable[[int], str]]
"""A rule, the score of each row (NaN where it does not apply), and the reason in words for a row."""


def _scores(rows: Rows) -> Iterator[Scored]:
    bright = rows.brightest
    for rule, flags in (
        ("flagged", FAULTY),
        ("single exposure", CatalogFlag.SINGLE_EXPOSURE),
        ("rejected", CatalogFlag.REJECTED),
    ):
        yield rule, np.where(rows.flags & flags, -bright, np.nan), lambda row: f"magnitude {bright[row]:.2f}"
    is_sure = (rows.peak_snr >= SURE_SNR) & ((rows.flags & FAULTY) == 0)
    yield _size(rows, is_sure, bright)
    sharp = np.where(is_sure & (rows.concentration > SHARP), rows.concentration, np.nan)
    yield "sharp", sharp, lambda row: f"concentration {sharp[row]:.2f} of a star's"
    yield _colour(rows, is_sure)
    yield _negative(rows)


def _size(rows: Rows, is_sure: NDArray[np.bool_], bright: Floats) -> Scored:
    """Half-light radius over the median of rows of about the same magnitude."""
    score = np.full(len(bright), np.nan)
    counted = is_sure & np.isfinite(bright) & np.isfinite(rows.radius)
    whole = np.floor(np.where(np.isfinite(bright), bright, -1.0)).astype(int)
    for magnitude in np.unique(whole[counted]):
        of = counted & (whole == magnitude)
        median = np.median(rows.radius[of])
        if of.sum() >= FEWEST and median > 0:
            score[of] = rows.radius[of] / median
    return "large", score, lambda row: f"half-light radius {rows.radius[row]:.2f}″, {score[row]:.1f} times the median"


def _colour(rows: Rows, is_sure: NDArray[np.bool_]) -> Scored:
    """Distance of a colour of neighbouring filters from its median, in the pair where it is farthest."""
    pairs = len(rows.bands) - 1
    distances = np.full((len(rows.flags), max(pairs, 1)), np.nan)
    colours = np.full_like(distances, np.nan)
    least = np.maximum(rows.flux, LIMIT_SNR * rows.error)
    snr = rows.snr
    for pair in range(pairs):
        blue, red = pair, pair + 1
        known = is_sure & (rows.error[:, blue] > 0) & (rows.error[:, red] > 0)
        known &= (snr[:, blue] >= SURE_SNR) | (snr[:, red] >= SURE_SNR)
        if known.sum() >= FEWEST:
            colours[known, pair] = -2.5 * np.log10(least[known, blue] / least[known, red])
            distances[known, pair] = np.abs(colours[known, pair] - np.median(colours[known, pair]))
    is_known = np.isfinite(distances).any(axis=1)
    place = np.argmax(np.nan_to_num(distances, nan=-1.0), axis=1)
    every = np.arange(len(place))

    def reason(row: int) -> str:
        blue, red = place[row], place[row] + 1
        sign = ">" if snr[row, blue] < LIMIT_SNR else "<" if snr[row, red] < LIMIT_SNR else "="
        return f"{rows.bands[blue]} - {rows.bands[red]} {sign} {colours[row, blue]:.2f}"

    return "colour", np.where(is_known, distances[every, place], np.nan), reason


def _negative(rows: Rows) -> Scored:
    snr = np.where(np.isfinite(rows.snr), rows.snr, np.inf)
    least = np.min(snr, axis=1, initial=np.inf)
    score = np.where(least <= NEGATIVE_SNR, -least, np.nan)
    return "negative", score, lambda row: f"S/N {least[row]:.1f} in {rows.bands[int(np.argmin(snr[row]))]}"


def rows_of(columns: Mapping[str, NDArray], bands: tuple[str, ...]) -> Rows:
    """Take the columns that the rules use from a catalogue's, with NaN for null."""

    def by_band(name: str) -> Floats:
        parts = [np.asarray(columns[f"{band.lower()}_{name}"], np.float64) for band in bands]
        return np.stack(parts, axis=1) if parts else np.zeros((len(columns["flags"]), 0))

    single = {
        name: np.asarray(columns[column], np.float64)
        for name, column in (
            ("radius", "half_light_radius"),
            ("concentration", "concentration"),
            ("peak_snr", "peak_snr"),
        )
    }
    return Rows(
        bands=bands,
        flux=by_band("flux"),
        error=by_band("flux_err"),
        magnitude=by_band("mag"),
        flags=np.asarray(columns["flags"], np.int64),
        **single,
    )
