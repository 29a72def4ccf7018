"""Gaussian filters give the numbers of scipy's."""

import numpy as np
import pytest
from scipy import ndimage

from cosmosaic.catalog.smoothing import gaussian


@pytest.mark.parametrize("shape", [(70, 90), (7, 200), (40, 3)])
@pytest.mark.parametrize("sigma", [0.4, 1.27, 5.1])
def test_filters_are_those_of_scipy_to_the_last_bit(shape: tuple[int, int], sigma: float) -> None:
    image = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    for mode in ("reflect", "constant"):
        np.testing.assert_array_equal(
            gaussian(image, sigma, truncate=3.0, mode=mode),
            ndimage.gaussian_filter(image, sigma, truncate=3.0, mode=mode),
        )
    np.testing.assert_array_equal(gaussian(image, sigma, order=1), ndimage.gaussian_filter(image, sigma, order=(0, 1)))
