"""Masks of sources."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cosmosaic.source_light import grown


@settings(deadline=None)  # it is compiled once
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 60)),
    st.sampled_from([0.002, 0.05, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 5.0, 8.0, 16.0]),
)
def test_a_grown_mask_holds_all_pixels_within_the_radius(seed, shape, filled, radius):
    mask = np.random.default_rng(seed).random(shape) < filled
    expected = ndimage.distance_transform_edt(~mask) <= radius if mask.any() else mask
    np.testing.assert_array_equal(grown(mask, radius), expected)


@pytest.mark.parametrize("radius", [0.0, 3.0])
def test_an_empty_mask_stays_empty(radius):
    assert not grown(np.zeros((20, 30), dtype=bool), radius).any()
