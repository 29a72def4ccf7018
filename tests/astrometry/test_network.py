"""The network puts every exposure where it is, as far as stars can tell, and never worse than its header."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from support.star_tables import StarField, star_field

from cosmosaic.astrometry.matching import MAS_PER_RADIAN, at_peak, same_stars, tangent_axes
from cosmosaic.astrometry.network import (
    Detections,
    Network,
    displacements,
    solve_network,
    stars_of,
    tie_to_catalogue,
)
from cosmosaic.geometry.attitude import attitude_matrix


@pytest.fixture(scope="module")
def deep() -> StarField:
    return star_field(22.0)


@pytest.fixture(scope="module")
def sparse() -> StarField:
    return star_field(6.0, columns=1, rows=1)


@pytest.fixture(scope="module")
def solved(deep: StarField) -> Network:
    return solve_network(deep.seen, deep.detections)


def rms(residuals: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(residuals))))


def moved(detections: Detections, chosen: np.ndarray, east_mas: float | np.ndarray) -> Detections:
    """Detections of which some stand elsewhere."""
    east, _ = tangent_axes(detections.vectors)
    return replace(detections, vectors=detections.vectors + (chosen * east_mas)[:, None] * east / MAS_PER_RADIAN)


def test_exposures_come_to_where_they_are(deep: StarField, solved: Network) -> None:
    before = rms(deep.residuals_mas(deep.points))
    after = deep.residuals_mas(solved.displaced(deep.points))
    assert before > 10
    assert rms(after) < 0.3
    assert np.abs(after).max() < 1.0
    assert solved.aligned.all()
    assert len(np.unique(solved.groups)) == 1


def test_errors_are_those_that_are_stated(deep: StarField, solved: Network) -> None:
    after = deep.residuals_mas(solved.displaced(deep.points))
    assert 0.6 < rms(after) / rms(solved.errors) < 1.6


def test_the_solution_is_that_of_dense_least_squares(sparse: StarField) -> None:
    """Every star with its own unknown place, every prior as a measurement: numpy's solution is that of the network."""
    # Errors that are overstated leave no residual that is robustly weighted.
    detections = replace(sparse.detections, errors=8 * sparse.detections.errors)
    solved = solve_network(sparse.seen, detections)
    matched, stars = stars_of(solved, detections)
    shared, frame = detections.select(matched), solved.frame
    unknowns, count = len(frame.priors), int(stars.max()) + 1
    design = np.stack([in_plane(shared, displacements(frame, shared, each)) for each in np.eye(unknowns)], axis=1)
    places = np.zeros((len(design), 2 * count))
    places[np.arange(len(design)), np.stack([2 * stars, 2 * stars + 1], axis=1).ravel()] = 1
    first = np.array([np.flatnonzero(stars == star)[0] for star in range(count)])
    observed = in_plane(shared, (shared.vectors - shared.vectors[first[stars]]) * MAS_PER_RADIAN)
    weight = np.repeat(1 / np.hypot(shared.errors, solved.systematic_mas), 2)
    rows = np.hstack([design, -places]) * weight[:, None]
    priors = np.hstack([np.diag(1 / frame.priors), np.zeros((unknowns, 2 * count))])
    sides = np.concatenate([-observed * weight, np.zeros(unknowns)])
    dense = np.linalg.lstsq(np.vstack([rows, priors]), sides, rcond=1e-15)[0][:unknowns]
    apart = in_plane(sparse.points, displacements(frame, sparse.points, solved.unknowns - dense)).reshape(-1, 2)
    assert rms(solved.unknowns) > 1
    # No star knows where all stand together: there the equations have fewer digits.
    assert np.abs(apart.mean(axis=0)).max() < 1e-3
    assert np.abs(apart - apart.mean(axis=0)).max() < 1e-6 * solved.errors.min()


def test_an_unknown_moves_the_stars_of_its_exposures(sparse: StarField) -> None:
    """The shift of a visit, a pointing, a detector or a filter moves all of its stars by as much, and no others."""
    frame = solve_network(sparse.seen, sparse.detections).frame
    for kind in range(4):
        own = frame.columns[:, kind]
        for unknown in np.unique(own):
            for axis in range(2):
                moves = displacements(frame, sparse.points, np.eye(len(frame.priors))[unknown + axis])
                expected = (own == unknown)[sparse.points.exposure]
                np.testing.assert_allclose(np.linalg.norm(moves, axis=1), expected, atol=1e-9)


def in_plane(detections: Detections, steps: np.ndarray) -> np.ndarray:
    """(East, north) of steps, one after the other."""
    return np.stack([np.sum(steps * axis, axis=1) for axis in tangent_axes(detections.vectors)], axis=1).ravel()


@pytest.mark.parametrize("systematic_mas", [0.05, 1.3, 9.0])
def test_errors_that_are_too_small_are_enlarged(sparse: StarField, systematic_mas: float) -> None:
    generator = np.random.default_rng(6)
    noise = systematic_mas * generator.standard_normal((2, len(sparse.star), 1)) / MAS_PER_RADIAN
    east, north = tangent_axes(sparse.detections.vectors)
    errant = replace(sparse.detections, vectors=sparse.detections.vectors + noise[0] * east + noise[1] * north)
    found = solve_network(sparse.seen, errant).systematic_mas
    # Errors of the stars are 0.4 mas or more: what is much less cannot be told from none.
    assert found == pytest.approx(systematic_mas, rel=0.25, abs=0.2)


def test_detectors_stand_where_they_were_put(deep: StarField, solved: Network) -> None:
    after = deep.residuals_mas(solved.displaced(deep.points))
    detectors = np.array([frame.detector for frame in deep.frames])
    means = [after[detectors == name].mean(axis=0) for name in np.unique(detectors)]
    assert np.abs(means).max() < 0.3


def test_few_stars_are_better_than_none() -> None:
    field = star_field(3.0)
    solved = solve_network(field.seen, field.detections)
    before, after = (np.hypot(*field.residuals_mas(one).T) for one in (field.points, solved.displaced(field.points)))
    assert rms(after) < 1.5
    assert np.all(after < before.max())
    assert after.max() < 5


def test_wrong_matches_in_a_crowd_move_nothing() -> None:
    field = star_field(150.0, columns=1)
    faint = field.detections.fluxes < np.median(field.detections.fluxes)
    generator = np.random.default_rng(8)
    exposures = len(field.frames)
    # Half of the faint stars of each exposure are noise.
    wrong = faint & (generator.random(len(faint)) < 0.5)
    offset = np.where(wrong, generator.uniform(-300, 300, len(faint)), 0.0)
    solved = solve_network(field.seen, moved(field.detections, wrong, offset))
    assert solved.aligned.sum() == exposures
    assert rms(field.residuals_mas(solved.displaced(field.points))) < 0.5


def test_an_exposure_without_stars_has_what_its_visit_and_detector_have(deep: StarField) -> None:
    lost = len(deep.frames) - 7
    pointing = deep.seen[lost].pointing
    same = np.array([one.pointing == pointing for one in deep.seen])
    solved = solve_network(deep.seen, deep.detections.select(~same[deep.detections.exposure]))
    assert not solved.aligned[same].any()
    assert solved.aligned[~same].all()
    before, after = (deep.residuals_mas(one, ~same)[same] for one in (deep.points, solved.displaced(deep.points)))
    # Its own pointing error stays; the visit's roll and the detectors' places do not.
    spread = [np.std(one, axis=0).max() for one in (before, after)]
    assert spread[1] < 0.35 * spread[0]


@pytest.mark.parametrize("stars", [0, 1])
def test_single_exposures_and_empty_ones_are_no_failure(deep: StarField, stars: int) -> None:
    first = deep.detections.select(deep.detections.exposure == 0).select(slice(0, 50 * stars))
    solved = solve_network(deep.seen[:1], first)
    assert not solved.aligned.any()
    assert np.all(solved.unknowns == 0)
    points = deep.points.select(deep.points.exposure == 0)
    np.testing.assert_allclose(solved.displaced(points).vectors, points.vectors, atol=1e-15)


def test_an_exposure_that_is_far_off_is_brought_back(deep: StarField) -> None:
    pointing = deep.seen[25].pointing
    off = np.array([one.pointing == pointing for one in deep.seen])
    errant = moved(deep.detections, off[deep.detections.exposure], 600.0)
    solved = solve_network(deep.seen, errant)
    points = moved(deep.points, off[deep.points.exposure], 600.0)
    assert np.abs(deep.residuals_mas(solved.displaced(points))).max() < 1.0


def test_groups_that_share_no_stars_are_solved_apart(deep: StarField) -> None:
    visits = np.unique([one.visit for one in deep.seen])
    of_visit = np.array([one.visit for one in deep.seen])
    pole = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    far = of_visit == visits[-1]
    seen = [
        replace(one, attitude=pole @ one.attitude) if is_far else one
        for one, is_far in zip(deep.seen, far, strict=True)
    ]
    vectors = np.where(
        far[deep.detections.exposure][:, None], deep.detections.vectors @ pole.T, deep.detections.vectors
    )
    solved = solve_network(seen, replace(deep.detections, vectors=vectors))
    assert len(np.unique(solved.groups)) == 2
    assert set(solved.groups[far]).isdisjoint(solved.groups[~far])
    assert solved.aligned.all()


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 2.2), (180.0, 2.2), (30.0, -89.7)])
def test_the_place_on_the_sky_does_not_matter(sparse: StarField, ra: float, dec: float) -> None:
    """Where RA begins anew, and near a pole."""
    turn = attitude_matrix(0.0, 0.0, ra, dec, 20.0) @ attitude_matrix(0.0, 0.0, 150.1, 2.2, 0.0).T
    seen = [replace(one, attitude=turn @ one.attitude) for one in sparse.seen]
    there = replace(sparse.detections, vectors=sparse.detections.vectors @ turn.T)
    here, found = solve_network(sparse.seen, sparse.detections), solve_network(seen, there)
    np.testing.assert_array_equal(found.stars, here.stars)
    back = replace(sparse.points, vectors=sparse.points.vectors @ turn.T)
    after = replace(sparse.points, vectors=found.displaced(back).vectors @ turn)
    np.testing.assert_allclose(
        sparse.residuals_mas(after), sparse.residuals_mas(here.displaced(sparse.points)), atol=0.01
    )


def test_held_exposures_stay_and_hold_the_others(deep: StarField) -> None:
    first = {deep.seen[0].visit}
    seen = [replace(one, is_held=one.visit in first) for one in deep.seen]
    held = np.array([one.is_held for one in seen])
    truth = deep.true_points
    # The held ones are where they are in truth.
    stars = np.where(held[deep.detections.exposure][:, None], deep.sky[deep.star], deep.detections.vectors)
    solved = solve_network(seen, replace(deep.detections, vectors=stars))
    points = replace(deep.points, vectors=np.where(held[deep.points.exposure][:, None], truth, deep.points.vectors))
    after = deep.absolute_mas(solved.displaced(points))
    np.testing.assert_allclose(after[held], 0.0, atol=1e-6)
    assert np.abs(after[~held]).max() < 1.5


def test_a_group_is_turned_onto_a_catalogue_as_a_whole(deep: StarField, solved: Network) -> None:
    generator = np.random.default_rng(5)
    chosen = generator.choice(len(deep.sky), 200, replace=False)
    axes = tangent_axes(deep.sky[chosen])
    noise = generator.standard_normal((2, len(chosen), 1)) / MAS_PER_RADIAN
    reference = deep.sky[chosen] + noise[0] * axes[0] + noise[1] * axes[1]
    tied, counts = tie_to_catalogue(solved, deep.detections, reference, np.ones(len(chosen)))
    (count,) = counts.values()
    assert count > 20
    absolute = deep.absolute_mas(tied.displaced(deep.points))
    assert np.hypot(*absolute.mean(axis=0)) < 3 / np.sqrt(count)
    relative = [deep.residuals_mas(one.displaced(deep.points)) for one in (solved, tied)]
    np.testing.assert_allclose(*relative, atol=2e-3)  # beyond what is linear


def test_a_catalogue_elsewhere_moves_nothing(deep: StarField, solved: Network) -> None:
    elsewhere = -deep.sky[:50]
    tied, counts = tie_to_catalogue(solved, deep.detections, elsewhere, np.ones(50))
    assert set(counts.values()) == {0}
    assert np.all(tied.rotations == 0)


def test_a_peak_among_chance_pairs_is_found_and_chance_is_none() -> None:
    generator = np.random.default_rng(2)
    chance = generator.uniform(-700, 700, (400, 2))
    true = np.array([310.0, -120.0]) + 5 * generator.standard_normal((12, 2))
    near = at_peak(np.concatenate([chance, true]))
    assert near is not None
    assert near[400:].all()
    assert at_peak(chance) is None
    assert at_peak(true[:2]) is None


def test_the_peak_is_the_fullest_block_of_a_plain_histogram() -> None:
    generator = np.random.default_rng(3)
    for number in range(40):
        middle = generator.uniform(-990, 990, 2)
        true = middle + 15 * generator.standard_normal((generator.integers(4, 60), 2))
        offsets = np.concatenate([generator.uniform(-1000, 1000, (50 * (number % 4), 2)), np.clip(true, -999, 999)])
        edges = np.linspace(-1000, 1000, 51)
        counts = np.histogram2d(*offsets.T, bins=(edges, edges))[0]
        blocks = ndimage.convolve(counts, np.ones((3, 3)), mode="constant")
        cell = np.unravel_index(np.argmax(blocks), blocks.shape)
        expected = np.all(np.abs(np.floor((offsets + 1000) / 40) - cell) <= 1, axis=1)
        for _ in range(3):
            expected = np.hypot(*(offsets - np.median(offsets[expected], axis=0)).T) < 60
        near = at_peak(offsets)
        assert near is None or np.array_equal(near, expected)
        assert near is not None or len(true) < 20


def test_a_peak_is_three_bins_wide() -> None:
    wide = np.stack(np.meshgrid([-40.0, 0.0, 40.0], [-40.0, 0.0, 40.0]), axis=-1).reshape(-1, 2) + np.array(
        [220.0, 140.0]
    )
    narrow = np.array([-300.0, -500.0]) + np.linspace(0, 5, 7)[:, None]
    near = at_peak(np.concatenate([wide, narrow]))
    assert near is not None
    np.testing.assert_array_equal(near, [True] * 9 + [False] * 7)


def test_two_detections_of_one_exposure_are_not_one_star() -> None:
    step = 10 / MAS_PER_RADIAN
    vectors = np.array([[1, 0, 0], [1, step, 0], [1, 0.4 * step, 0], [1, 1e-4, 0], [1, 1e-4 + step, 0], [1, 2e-4, 0]])
    numbers = same_stars(vectors, np.array([0, 0, 1, 0, 1, 0]), 30.0)
    np.testing.assert_array_equal(numbers, [-1, -1, -1, 0, 0, -1])
