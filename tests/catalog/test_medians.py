"""Medians are those of numpy, astropy and photutils."""

import warnings

import numpy as np
import pytest
from astropy.stats import SigmaClip, mad_std
from photutils.background import Background2D, MedianBackground

from cosmosaic.catalog.medians import clipped_medians, median, scatter


@pytest.mark.parametrize("count", [1, 2, 3, 50, 4001, 100_000])
@pytest.mark.parametrize("kind", ["normal", "integers", "rising"])
def test_median_and_scatter_are_those_of_numpy_and_astropy(count: int, kind: str) -> None:
    random = np.random.default_rng(count)
    values = {
        "normal": random.normal(3.0, 1.0, count),
        "integers": random.integers(0, 3, count),
        "rising": np.arange(count) ** 2,
    }[kind].astype(np.float32)
    assert median(values) == np.median(values)
    assert scatter(values) == mad_std(values)


@pytest.mark.parametrize("shape", [(400, 400), (430, 390), (60, 90)])
def test_clipped_medians_are_those_of_photutils(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(8)
    image = (random.normal(0.0, 1.0, shape) + random.random(shape) ** 30 * 50).astype(np.float32)
    # Boxes whose sample misleads: few values in the first lines, half of them bright.
    image[100:200, 100:150] += 9.0
    image[5, 7] = np.nan
    mask = random.random(shape) < 0.3
    mask[:50, :58] = True
    size = (min(50, shape[0]), min(60, shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Background2D(
            image, size, mask=mask, exclude_percentile=90.0, filter_size=1, sigma_clip=SigmaClip(3.0),
            bkg_estimator=MedianBackground(),
        )  # fmt: skip
    ours = clipped_medians(image, mask, size, 0.1 * size[0] * size[1])
    known = np.isfinite(ours)
    np.testing.assert_array_equal(known, ~theirs._mesh_nan_mask)
    assert known.sum() > 1
    np.testing.assert_array_equal(ours[known], theirs.background_mesh[known])
