"""Sources that touch are separated as photutils separates them."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from photutils.segmentation import deblend_sources, detect_sources
from scipy import ndimage

from cosmosaic.catalog.deblending import deblend


def crowd(seed: int, smoothing: float = 1.5) -> NDArray[np.float32]:
    """Noise with sources of many sizes, in units of its scatter."""
    random = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(random.normal(size=(300, 280)), smoothing) * 2 * np.sqrt(np.pi) * smoothing
    y, x = np.indices(image.shape)
    for _ in range(90):
        place, width = random.uniform(0, 290, 2), random.uniform(1.5, 9.0)
        image += random.lognormal(2.0, 1.5) * np.exp(-np.hypot(y - place[0], x - place[1]) / width)
    return image.astype(np.float32)


@pytest.mark.parametrize("contrast", [0.0005, 0.005, 0.1])
@pytest.mark.parametrize(("seed", "least", "lowered"), [(1, 5, 0.0), (2, 1, 0.0), (3, 9, 3.0)])
def test_parts_are_those_of_photutils(seed: int, least: int, lowered: float, contrast: float) -> None:
    image = crowd(seed)
    parents = detect_sources(image, 2.0, 5)
    image -= np.float32(lowered)
    # Thresholds of sources with pixels that are not positive cannot grow by equal factors; photutils before 3.1 takes
    # equal steps for them, as we do, and later versions do if they are told to.
    lowest = ndimage.minimum(image, parents.data, parents.labels)
    assert np.all(lowest <= 0) if lowered else np.all(lowest > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mode = "linear" if lowered else "exponential"
        theirs = deblend_sources(image, parents, least, contrast=contrast, mode=mode, progress_bar=False)
    segments, separated = deblend(image, parents.data, least, contrast)
    assert len(separated) > 20
    np.testing.assert_array_equal(segments, theirs.data)
    np.testing.assert_array_equal(separated, np.sort(theirs.deblended_labels))


def test_a_source_of_very_many_peaks_is_that_of_photutils() -> None:
    random = np.random.default_rng(5)
    image = (1.0 + random.random((60, 60)) ** 4).astype(np.float32)
    parents = detect_sources(image, 0.5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = deblend_sources(image, parents, 1, contrast=0.003, progress_bar=False)
    segments, separated = deblend(image, parents.data, 1, 0.003)
    assert len(separated) > 5
    assert "markers" in str(theirs.info)  # too many for thresholds that grow by equal factors
    np.testing.assert_array_equal(segments, theirs.data)


def test_a_flat_source_stays_whole() -> None:
    image = np.zeros((20, 20), np.float32)
    image[5:9, 5:9] = 3.0
    segments, separated = deblend(image, (image > 0).astype(np.int32), 1, 0.001)
    assert len(separated) == 0
    np.testing.assert_array_equal(segments, image > 0)
