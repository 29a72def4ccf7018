"""Facts about an exposure that its mosaic needs in addition to the sums."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stcal.resample.utils import compute_mean_pixel_area

from cosmosaic.drizzle.exposure import ExposurePlanes, keywords
from cosmosaic.exposures.footprints import region_text
from cosmosaic.records import Record


class ExposureSummary(Record):
    """Facts about an exposure that its mosaic needs in addition to the sums."""

    name: str
    group: str
    exposure_time: float
    measurement_time: float | None
    duration: float
    start_time: float | None
    end_time: float | None
    """MJD, where they are known."""
    s_region: str
    pixel_scale_arcsec: float
    """Of the detector: square root of its mean pixel area."""
    weights: tuple[float, ...]
    """Drizzled weights on a coarse lattice."""
    keywords: dict[str, bool | int | float | str]
    """Of the primary and SCI headers."""

    @property
    def time_weight(self) -> float:
        """The time by which exposures are weighted."""
        return self.measurement_time or self.exposure_time


def write_summary(summary: ExposureSummary, samples: NDArray[np.float64], path: Path) -> Path:
    """Write a summary with the places of the exposure's pixels, from `cosmosaic.geometry.pixelmap.sampled_map`."""
    np.savez(path, facts=np.bytes_(summary.model_dump_json()), samples=samples)
    return path


def read_summaries(paths: Iterable[Path]) -> list[ExposureSummary]:
    """Read summaries, sorted by the exposures' names."""
    summaries = [ExposureSummary.model_validate_json(_part(path, "facts").item()) for path in paths]
    return sorted(summaries, key=lambda summary: summary.name)


def read_samples(path: Path) -> NDArray[np.float64]:
    """Read the places of an exposure's pixels from its summary."""
    return _part(path, "samples")


def summarise(exposure: ExposurePlanes, weights: np.ndarray) -> ExposureSummary:
    """Summarise an exposure, with its drizzled weights on a coarse lattice."""
    area = compute_mean_pixel_area(exposure.wcs, shape=exposure.shape)
    return ExposureSummary(
        name=exposure.name,
        group=exposure.group,
        exposure_time=exposure.times.exposure,
        measurement_time=exposure.times.measurement,
        duration=exposure.times.duration,
        start_time=exposure.times.start,
        end_time=exposure.times.end,
        s_region=region_text(exposure.footprint),
        pixel_scale_arcsec=3600.0 * float(np.degrees(np.sqrt(area))),
        weights=tuple(weights.tolist()),
        keywords=keywords(exposure.header) | keywords(exposure.sci_header),
    )


def _part(path: Path, name: str) -> NDArray[Any]:
    with np.load(path) as parts:
        part: NDArray[Any] = parts[name]
    return part
