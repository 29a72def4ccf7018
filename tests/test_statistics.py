"""Statistics that sources hardly touch."""

import numpy as np
import pytest
from scipy.stats import truncnorm

from cosmosaic.statistics import CUT_MEAN, CUT_VARIANCE, LOWER_SIGMA, UPPER_SIGMA, scatter_about_zero


def test_scatter_is_measured_from_zero_without_outliers_and_gaps() -> None:
    values = np.random.default_rng(3).normal(0.0, 2.0, (200, 200))
    values[::50] = 1e6
    values[1::50] = np.nan
    assert scatter_about_zero(values) == pytest.approx(2.0, rel=0.05)
    assert scatter_about_zero(np.full(10, 3.0)) == pytest.approx(3.0 * 1.4826)


def test_the_moments_of_a_cut_gaussian_are_those_of_scipy() -> None:
    moments = truncnorm.stats(-LOWER_SIGMA, UPPER_SIGMA, moments="mv")
    assert pytest.approx([float(moment) for moment in moments], rel=1e-12) == (CUT_MEAN, CUT_VARIANCE)
