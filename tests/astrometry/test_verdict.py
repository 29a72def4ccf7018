"""The verdict on astrometry names what is off, and passes what is not."""

from dataclasses import replace

import numpy as np
import pytest
from support.star_tables import StarField, nominal_view, observe, star_field

from cosmosaic.astrometry.matching import MAS_PER_RADIAN, tangent_axes
from cosmosaic.astrometry.metrics import Metric, state_of
from cosmosaic.astrometry.network import Detections
from cosmosaic.astrometry.parts import verdict_table
from cosmosaic.astrometry.verdict import fitted_scale, held_out_verdict, judge_astrometry

NO_ERRORS = dict.fromkeys(
    ("pointing_error_mas", "roll_error_arcsec", "placement_error_mas", "filter_offset_mas", "aberration"), 0.0
)


@pytest.fixture(scope="module")
def perfect() -> StarField:
    return star_field(15.0, **NO_ERRORS)


def metric(metrics: tuple[Metric, ...], name: str) -> Metric:
    return next(one for one in metrics if one.name == name)


def judged(field: StarField, detections: Detections, **options) -> tuple[Metric, ...]:
    return judge_astrometry(field.seen, detections, field.star, **options)


def shifted(field: StarField, chosen: list[bool], mas: float) -> Detections:
    """Detections of some exposures moved to the north."""
    _, north = tangent_axes(field.detections.vectors)
    moved = np.array(chosen)[field.detections.exposure][:, None] * north * mas / MAS_PER_RADIAN
    return replace(field.detections, vectors=field.detections.vectors + moved)


def test_what_is_where_it_is_passes(perfect: StarField) -> None:
    metrics = judged(perfect, perfect.detections)
    assert {one.state for one in metrics} == {"pass"}
    assert state_of(metrics) == "pass"


def test_null_surveys_pass() -> None:
    fields = [star_field(8.0, seed, rows=1, **NO_ERRORS) for seed in range(6)]
    states = [state_of(judged(one, one.detections)) for one in fields]
    assert states.count("pass") >= 5


def test_an_exposure_that_is_off_is_named(perfect: StarField) -> None:
    pointing = perfect.seen[33].pointing
    visit = perfect.seen[33].visit
    errant = shifted(perfect, [(one.pointing, one.visit) == (pointing, visit) for one in perfect.seen], 20.0)
    found = metric(judged(perfect, errant), "exposure")
    assert (found.state, found.where) == ("fail", f"{visit} {pointing}")
    assert found.value == pytest.approx(20.0, abs=1.5)
    assert pointing in found.message


def test_a_detector_that_is_off_is_named(perfect: StarField) -> None:
    errant = shifted(perfect, [one.detector == "NRCA3" for one in perfect.seen], 8.0)
    found = metric(judged(perfect, errant), "detector")
    assert (found.state, found.where) == ("fail", "NRCA3")
    assert found.value == pytest.approx(8.0, abs=1.0)


def test_a_filter_that_is_off_is_named(perfect: StarField) -> None:
    errant = shifted(perfect, [one.band == "F277W" for one in perfect.seen], 10.0)
    metrics = judged(perfect, errant)
    for name in ("filter", "cell"):
        assert metric(metrics, name).where == "F277W"
    assert metric(metrics, "filter").state == "fail"
    assert metric(metrics, "filter").value == pytest.approx(10.0, abs=1.0)


def test_a_roll_error_is_named(perfect: StarField) -> None:
    frames = [one.model_copy(update={"roll_error_arcsec": 10.0 * (one.observation == "002")}) for one in perfect.frames]
    rolled = observe(frames, 15.0)
    found = metric(judged(rolled, rolled.detections), "roll")
    assert found.state in ("warn", "fail")
    assert "002" in found.where


def test_aberration_that_was_left_in_is_seen_between_modules_and_measured() -> None:
    field = star_field(15.0, **(NO_ERRORS | {"aberration": 9e-5}))
    left = observe(field.frames, 15.0, view=nominal_view)
    found = metric(judged(left, left.detections), "module")
    assert found.state == "fail"
    assert "align.aberration" in found.message
    scale, error = fitted_scale(left.seen, left.detections)
    assert scale == pytest.approx(-9e-5, abs=max(5 * error, 1e-5))
    # About a common point only the dithers' part of it is left, a shift of each pointing.
    assert metric(judged(field, field.detections), "module").value < found.value / 3


def test_wrong_matches_do_not_hide_or_make_a_fault(perfect: StarField) -> None:
    generator = np.random.default_rng(4)
    wrong = generator.random(len(perfect.star)) < 0.05
    _, north = tangent_axes(perfect.detections.vectors)
    astray = (wrong * generator.uniform(-50, 50, len(wrong)))[:, None] * north / MAS_PER_RADIAN
    metrics = judged(perfect, replace(perfect.detections, vectors=perfect.detections.vectors + astray))
    assert state_of(metrics) == "pass"


def test_a_catalogue_at_the_wrong_epoch_is_seen(perfect: StarField) -> None:
    east, _ = tangent_axes(perfect.sky)
    drifted = perfect.sky + 30 * east / MAS_PER_RADIAN
    errors = np.ones(len(drifted))
    right = metric(judged(perfect, perfect.detections, reference=(perfect.sky, errors)), "absolute")
    wrong = metric(judged(perfect, perfect.detections, reference=(drifted, errors)), "absolute")
    assert (right.state, wrong.state) == ("pass", "fail")
    assert wrong.value == pytest.approx(30.0, abs=1.0)


def test_held_out_stars_judge_before_and_after() -> None:
    field = star_field(15.0)
    before, after = (one.metrics for one in held_out_verdict(field.seen, field.detections))
    assert state_of(before) == "fail"
    assert state_of(after) == "pass"
    assert metric(before, "exposure").rms > 10 * max(metric(after, "exposure").rms, 0.2)
    table = verdict_table({"before": before, "after": after}, {})
    assert table.meta["state"] == "pass"
    assert set(table["when"]) == {"before", "after"}


def test_a_single_exposure_is_not_measurable(perfect: StarField) -> None:
    one = perfect.detections.exposure == 0
    metrics = judge_astrometry(perfect.seen[:1], perfect.detections.select(one), np.arange(one.sum()))
    assert state_of(metrics) == "not measurable"
    before, after = (one.metrics for one in held_out_verdict(perfect.seen[:1], perfect.detections.select(one)))
    assert state_of(before) == state_of(after) == "not measurable"
