"""The verdict tells which filter, pair of filters and tile is off, and which has too few stars to tell."""

from dataclasses import replace

import numpy as np
import pytest
from support.star_tables import StarField, nominal_view, observe, star_field

from cosmosaic.astrometry.matching import MAS_PER_RADIAN, tangent_axes
from cosmosaic.astrometry.metrics import state_of
from cosmosaic.astrometry.network import Detections
from cosmosaic.astrometry.parts import Part, judge_parts, verdict_table
from cosmosaic.astrometry.reference import Reference
from cosmosaic.astrometry.verdict import (
    Judged,
    held_out_verdict,
    judge_astrometry,
    judge_matches,
    judge_scale,
    null_verdict,
)
from cosmosaic.geometry.sphere import directions
from cosmosaic.geometry.windows import Box, window_of
from cosmosaic.records import Lattice, MosaicGrid

NO_ERRORS = dict.fromkeys(
    ("pointing_error_mas", "roll_error_arcsec", "placement_error_mas", "filter_offset_mas", "aberration"), 0.0
)
LATTICE = Lattice(tangent_ra=150.1, tangent_dec=2.2, rotation=0.0, pixel_scale_mas=30.0)


@pytest.fixture(scope="module")
def perfect() -> StarField:
    return star_field(15.0, **NO_ERRORS)


def tile(name: str, east: tuple[float, float]) -> MosaicGrid:
    """All of the field between two distances in arcsec east of its tangent point."""
    left, right = (round(-one / 0.03) for one in east[::-1])
    return window_of(LATTICE, Box(left, -12000, right - left, 24000), name)


def parts(field: StarField, detections: Detections, tiles=(), reference=None) -> dict[Part, dict]:
    judged = Judged((), detections, field.star)
    found = judge_parts(field.seen, judged, reference, tiles)
    return {part: {one.name: one for one in metrics} for part, metrics in found}


def shifted(field: StarField, chosen: np.ndarray, mas: float) -> Detections:
    """Some detections moved to the north."""
    _, north = tangent_axes(field.detections.vectors)
    moved = chosen[:, None] * north * mas / MAS_PER_RADIAN
    return replace(field.detections, vectors=field.detections.vectors + moved)


def of(field: StarField, label: str, value: str) -> np.ndarray:
    return np.array([getattr(one, label) == value for one in field.seen])[field.detections.exposure]


def test_the_pair_of_filters_that_is_off_is_told(perfect: StarField) -> None:
    found = parts(perfect, shifted(perfect, of(perfect, "band", "F277W"), 10.0))
    pairs = {part: each["filter"] for part, each in found.items() if part.scope == "filters"}
    assert len(pairs) == 6
    for part, metric in pairs.items():
        assert metric.state == ("fail" if "F277W" in (part.filter, part.other_filter) else "pass")
    metric = pairs[Part("filters", "F150W", "F277W")]
    assert metric.value == pytest.approx(10.0, abs=1.0)
    assert metric.stars > 50
    assert metric.in_errors > 10
    assert all(state_of(tuple(each.values())) == "pass" for part, each in found.items() if part.scope == "filter")


def test_the_filter_with_the_exposure_that_is_off_is_told(perfect: StarField) -> None:
    one = next(one for one in perfect.seen if one.band == "F150W")
    errant = of(perfect, "pointing", one.pointing) & of(perfect, "visit", one.visit) & of(perfect, "band", "F150W")
    found = parts(perfect, shifted(perfect, errant, 20.0))
    states = {part.filter: each["exposure"].state for part, each in found.items() if part.scope == "filter"}
    assert states == {"F115W": "pass", "F150W": "fail", "F277W": "pass", "F444W": "pass"}


def test_the_tile_in_which_a_filter_is_off_is_told(perfect: StarField) -> None:
    ra, _ = directions(perfect.detections.vectors).T
    east = 3600 * (ra - LATTICE.tangent_ra)
    middle = float(np.median(east))
    tiles = (tile("east", (middle, middle + 300)), tile("west", (middle - 300, middle)), tile("far", (2000, 2300)))
    found = parts(perfect, shifted(perfect, (east > middle) & of(perfect, "band", "F277W"), 15.0), tiles)
    filters = {part.tile: each["filter"] for part, each in found.items() if part.scope == "tile"}
    assert {name: one.state for name, one in filters.items()} == {
        "east": "fail",
        "west": "pass",
        "far": "not measurable",
    }
    assert filters["east"].where == "F277W"
    far = found[Part("tile", tile="far")]
    assert {one.state for one in far.values()} == {"not measurable"}
    assert {one.stars for one in far.values()} == {0}


def test_a_tile_that_covers_the_field_has_all_stars(perfect: StarField) -> None:
    every = Part("tile", tile="all")
    in_tile = parts(perfect, perfect.detections, (tile("all", (-1000, 1000)),))[every]
    whole = judge_astrometry(perfect.seen, perfect.detections, perfect.star)
    for one in whole:
        assert (one.number, one.stars) == (in_tile[one.name].number, in_tile[one.name].stars)
        assert in_tile[one.name].value == pytest.approx(one.value, rel=1e-3)


def test_a_tile_is_compared_with_the_stars_of_the_catalogue_in_it(perfect: StarField) -> None:
    east, _ = tangent_axes(perfect.sky)
    ra, _ = directions(perfect.sky).T
    middle = float(np.median(3600 * (ra - LATTICE.tangent_ra)))
    tiles = (tile("east", (middle, middle + 400)), tile("west", (middle - 400, middle)))
    is_east = 3600 * (ra - LATTICE.tangent_ra) > middle
    drifted = perfect.sky + is_east[:, None] * 30 * east / MAS_PER_RADIAN
    found = parts(perfect, perfect.detections, tiles, Reference(drifted, np.ones(len(drifted))))
    absolute = {part.tile: each["absolute"] for part, each in found.items() if part.scope == "tile"}
    assert (absolute["east"].state, absolute["west"].state) == ("fail", "pass")
    assert absolute["east"].value == pytest.approx(30.0, abs=1.0)


def test_one_module_has_none_to_be_compared_with_and_a_tile_of_one_is_not_measurable(perfect: StarField) -> None:
    of_b = np.array([one.detector[3] == "B" for one in perfect.seen])
    chosen = of_b[perfect.detections.exposure]
    judged = Judged((), perfect.detections.select(chosen), perfect.star[chosen])
    whole = tile("all", (-1000, 1000))
    both = dict(judge_parts(perfect.seen, judged, None, (whole,)))
    seen = [one for one, is_b in zip(perfect.seen, of_b, strict=True) if is_b]
    renumbered = replace(judged.detections, exposure=(np.cumsum(of_b) - 1)[judged.detections.exposure])
    alone = dict(judge_parts(seen, judged._replace(detections=renumbered), None, (whole,)))
    states = [
        next(one.state for one in found[Part("tile", tile="all")] if one.name == "module") for found in (both, alone)
    ]
    assert states == ["not measurable", "not applicable"]


def test_aberration_that_was_left_in_is_measured_filter_by_filter() -> None:
    field = star_field(15.0, **(NO_ERRORS | {"aberration": 9e-5}))
    left = observe(field.frames, 15.0, view=nominal_view)
    found = parts(left, left.detections)
    scale = found[Part("filter", "F150W")]["scale"]
    assert scale.state == "fail"
    assert scale.value == pytest.approx(90.0, abs=10.0)
    assert "where 1 - VA_SCALE is 90 ppm; see align.aberration" in scale.message
    assert judge_scale(field.seen, field.detections).state == "pass"


def test_detectors_that_no_star_connects_have_no_measurable_scale(perfect: StarField) -> None:
    first = perfect.seen[0]
    own = of(perfect, "visit", first.visit) & of(perfect, "pointing", first.pointing)
    assert judge_scale(perfect.seen, perfect.detections.select(own & of(perfect, "band", "F115W"))).state == (
        "not measurable"
    )


def test_wrong_matches_in_a_crowd_are_told() -> None:
    field = star_field(120.0, columns=1, rows=1, **NO_ERRORS)
    generator = np.random.default_rng(4)
    states = []
    for part in (0.02, 0.25):
        wrong = (generator.random(len(field.star)) < part) * generator.uniform(-50, 50, len(field.star))
        found = judge_matches(shifted(field, wrong, 1.0), field.star)
        states.append(found.state)
        assert found.value == pytest.approx(100 * part, rel=0.35)
    assert states == ["pass", "warn"]
    assert "align.snr_threshold" in found.message


def test_exposures_that_are_off_are_no_wrong_matches() -> None:
    field = star_field(15.0)
    assert judge_matches(field.detections, field.star).state == "pass"


def test_noise_alone_passes_where_exposures_are_off() -> None:
    field = star_field(15.0)
    before, _ = held_out_verdict(field.seen, field.detections)
    assert state_of(before.metrics) == "fail"
    noise = null_verdict(field.seen, before)
    assert {one.state for one in noise} == {"pass"}
    exposures = [next(one for one in metrics if one.name == "exposure") for metrics in (noise, before.metrics)]
    assert exposures[0].in_errors < 1.5 < 0.2 * exposures[1].in_errors


def test_the_state_of_the_table_is_that_of_the_survey(perfect: StarField) -> None:
    before, after = held_out_verdict(perfect.seen, perfect.detections)
    far = {"after": judge_parts(perfect.seen, after, None, (tile("far", (2000, 2300)),))}
    table = verdict_table({"before": before.metrics, "after": after.metrics}, far)
    assert table.meta["state"] == "pass"
    rows = table[table["tile"] == "far"]
    assert set(rows["state"]) == {"not measurable"}
    assert set(table["scope"]) == {"survey", "filter", "filters", "tile"}
