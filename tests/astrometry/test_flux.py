"""Detectors that count the same stars differently are told, with honest errors."""

from dataclasses import replace

import numpy as np
import pytest
from support.star_tables import StarField, star_field

from cosmosaic.astrometry.flux import detector_fluxes, flux_table

SCATTER_MAG = 0.03


@pytest.fixture(scope="module")
def field() -> StarField:
    return star_field(20.0)


def observed(field: StarField, faint: dict[tuple[str, str], float], seed: int) -> np.ndarray:
    """Fluxes of the stars, where some detectors in some filters see less."""
    generator = np.random.default_rng(seed)
    true = generator.uniform(20, 25, len(field.sky))[field.star]
    seen = [field.seen[number] for number in field.detections.exposure]
    dimming = np.array([faint.get((one.band, one.detector), 0.0) for one in seen])
    noise = SCATTER_MAG * generator.standard_normal(len(true))
    noise[::50] += 1.0  # variable stars, blends
    return 10 ** (-0.4 * (true + dimming + noise))


def test_a_detector_that_sees_less_is_told(field: StarField) -> None:
    fluxes = observed(field, {("F150W", "NRCA2"): 0.05}, 1)
    scales = detector_fluxes(field.seen, replace(field.detections, fluxes=fluxes), field.star)
    found = {(one.band, one.detector): one for one in scales}
    assert len(found) == 2 * 8 + 2 * 2
    share = 0.05 / 8  # the mean of all detectors is zero
    for (band, detector), one in found.items():
        expected = (0.05 if detector == "NRCA2" else 0.0) - share if band == "F150W" else 0.0
        assert one.offset == pytest.approx(expected, abs=4.5 * one.error)
        assert one.error < 0.01
    assert found["F150W", "NRCA2"].offset > 5 * found["F150W", "NRCA2"].error


def test_errors_are_those_of_repeated_measurements(field: StarField) -> None:
    draws = [
        detector_fluxes(field.seen, replace(field.detections, fluxes=observed(field, {}, seed)), field.star)
        for seed in range(12)
    ]
    pulls = [one.offset / one.error for scales in draws for one in scales]
    assert 0.6 < np.std(pulls) < 1.6


def test_detectors_without_common_stars_have_no_scale(field: StarField) -> None:
    alone = field.detections.exposure == 0
    scales = detector_fluxes(field.seen, field.detections.select(alone), field.star[alone])
    assert scales == []
    assert len(flux_table(scales)) == 0
