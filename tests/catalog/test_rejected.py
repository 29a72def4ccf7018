"""A source that outlier rejection has cut is flagged, and no other."""

import numpy as np
import pytest

from cosmosaic.catalog.rejected import rejected_labels

SHAPE = (60, 60)


def star() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices(SHAPE)
    sci = 100 * np.exp(-0.5 * ((x - 30) ** 2 + (y - 30) ** 2) / 1.5**2)
    return sci, (sci > 1).astype(np.int32)


@pytest.mark.parametrize(("depth", "kept", "flagged"), [(3, 2.0, True), (8, 7.0, True), (3, 2.8, False)])
def test_a_core_without_one_of_its_exposures_is_told(depth: int, kept: float, flagged: bool) -> None:
    sci, segments = star()
    wht, exposures = np.full(SHAPE, 5.0 * depth), np.full(SHAPE, float(depth))
    wht[28:33, 28:33] = 5.0 * kept
    assert rejected_labels(segments, sci, wht, exposures).tolist() == ([1] if flagged else [])


def test_the_edge_of_an_exposure_is_no_rejection() -> None:
    sci, segments = star()
    wht, exposures = np.full(SHAPE, 15.0), np.full(SHAPE, 3.0)
    wht[:, :36], exposures[:, :36] = 10.0, 2.0
    assert rejected_labels(segments, sci, wht, exposures).tolist() == []


def test_a_source_that_is_darker_than_the_sky_in_a_filter_has_no_core_to_lose() -> None:
    sci, segments = star()
    whole = np.full(SHAPE, 3.0)
    assert rejected_labels(segments, -sci, whole, whole).tolist() == []
