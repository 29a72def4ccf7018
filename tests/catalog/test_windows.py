"""Windowed centroids are those of photutils."""

import numpy as np
import pytest
from photutils.segmentation import SourceCatalog, detect_sources
from scipy import ndimage

from cosmosaic.catalog.windows import windowed_centroids


def test_windowed_centroids_are_those_of_photutils() -> None:
    random = np.random.default_rng(2)
    image = ndimage.gaussian_filter(random.normal(size=(300, 280)), 1.0)
    y, x = np.indices(image.shape)
    for _ in range(120):
        place, width = random.uniform(-2, 290, 2), random.uniform(1.2, 5.0)
        image += random.lognormal(1.5, 1.0) * np.exp(-(((y - place[0]) ** 2 + (x - place[1]) ** 2) / 2 / width**2))
    image = image.astype(np.float32)
    blocked = random.random(image.shape) < 0.01
    segments = detect_sources(image, 1.5, 9)
    theirs = SourceCatalog(image, segments, mask=blocked, kron_params=(2.5, 1.4, 0.0))
    radius = theirs.flux_radius(0.5).value
    sigma = 2.0 * np.maximum(radius, 0.5) / 2.3548200450309493
    start = (theirs.x_centroid, theirs.y_centroid)
    ours = windowed_centroids(image, blocked, segments.data, segments.labels, start, sigma)
    # photutils puts those that leave their source back to the start.
    same = np.hypot(theirs.x_centroid_win - start[0], theirs.y_centroid_win - start[1]) > 0
    assert same.sum() > 60
    assert ours[0][same] == pytest.approx(theirs.x_centroid_win[same], abs=1e-7)
    assert ours[1][same] == pytest.approx(theirs.y_centroid_win[same], abs=1e-7)
    assert np.isnan(ours[0][np.isnan(radius)]).all()
