"""Medians by counting are those of numpy in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cosmosaic.cells.medians import is_constant, median_of

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
IMAGES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FINITE)


@settings(max_examples=200, deadline=None)
@given(IMAGES, st.integers(0, 2**32 - 1))
def test_the_median_is_that_of_numpy(image: np.ndarray, seed: int) -> None:
    chosen = np.random.default_rng(seed).random(image.shape) < 0.7
    chosen[0, 0] = True
    # Pixels that are not chosen may have no value.
    blanked = np.where(chosen, image, np.float32(np.nan))
    assert median_of(blanked, chosen, int(chosen.sum())) == np.median(image[chosen].astype(np.float64))


@pytest.mark.parametrize("number", [100, 101])
def test_ties_and_both_signs_of_zero_are_ranked(number: int) -> None:
    values = np.repeat(np.array([-0.0, 0.0, -1.0, 1.0, 1.0], dtype=np.float32), 50)[:number].reshape(1, -1)
    everywhere = np.ones(values.shape, dtype=bool)
    assert median_of(values, everywhere, number) == np.median(values.astype(np.float64))


def test_images_of_one_value_are_told_by_the_chosen_pixels() -> None:
    image = np.array([[3.0, 1.0], [1.0, np.nan]], dtype=np.float32)
    chosen = np.array([[False, True], [True, False]])
    assert is_constant(image, chosen)
    assert not is_constant(image, ~np.isnan(image))
