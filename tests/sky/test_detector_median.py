"""A clipped median per detector."""

import numpy as np
import pytest
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.cells.survey import NoSkyError
from cosmosaic.sky.detector_median import clipped_median


def test_level_of_a_field_with_sources_is_the_sky_to_a_percent_of_the_noise():
    draw = np.random.default_rng(1)
    data = 0.3 + 0.02 * draw.standard_normal((500, 500)).astype(np.float32)
    y, x = np.indices(data.shape)
    for _ in range(60):
        x0, y0 = draw.uniform(0, 500, 2)
        data += draw.exponential(0.5) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 18)
    level = clipped_median(data, np.zeros(data.shape, np.uint32))
    # Clipping at 3 sigma cannot see wings below the noise: a few per cent of the rms are left of them.
    assert level == pytest.approx(0.3, abs=0.05 * 0.02)


def test_flagged_and_nan_pixels_do_not_count():
    data = np.full((20, 20), 0.5, np.float32)
    dq = np.zeros(data.shape, np.uint32)
    data[:12], dq[:12] = 99.0, pixel["DO_NOT_USE"]
    data[12:16], dq[12:16] = 77.0, pixel["NON_SCIENCE"]
    data[16] = np.nan
    assert clipped_median(data, dq) == 0.5


def test_nothing_usable_is_an_error():
    with pytest.raises(NoSkyError):
        clipped_median(np.full((5, 5), np.nan, np.float32), np.zeros((5, 5), np.uint32))
