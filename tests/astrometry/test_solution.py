"""What was aligned stays where it is; what is new, or changed, is aligned to it."""

import io

import numpy as np
import pytest

from cosmosaic.astrometry.solution import (
    NO_CORRECTION,
    AlignedExposure,
    Alignment,
    AlignRequest,
    Correction,
    alignment_table,
    keeping,
    moves,
    needed_exposures,
    read_alignment,
)
from cosmosaic.survey import AlignSettings

SETTINGS = AlignSettings(enabled=True)
FOOTPRINTS = {
    name: [(150.0 + east, 2.0), (150.01 + east, 2.0), (150.01 + east, 2.01), (150.0 + east, 2.01)]
    for name, east in {"a": 0.0, "b": 0.005, "c": 0.012, "far": 1.0}.items()
}
"""Squares of 36 arcsec: a and b overlap, b and c, and far with none."""


def request(names: str | dict[str, str], settings: AlignSettings = SETTINGS, **changes) -> AlignRequest:
    return AlignRequest(settings=settings, fwhm_pixels=2.0, exposures=digests(names), **changes)


def digests(names: str | dict[str, str]) -> dict[str, str]:
    return names if isinstance(names, dict) else {name: f"cal of {name}" for name in names}


def alignment(
    names: str, kept: str = "", missing: tuple[str, ...] = (), corrections: dict[str, Correction] | None = None, **asked
) -> Alignment:
    return Alignment(
        asked=request(names, **asked).asked,
        missing=missing,
        exposures=tuple(
            AlignedExposure(
                name=name, sha256=sha256, kept=name in kept, correction=(corrections or {}).get(name, NO_CORRECTION)
            )
            for name, sha256 in digests(names).items()
        ),
    )


def kept_names(asked: AlignRequest) -> str:
    assert all(one.kept for one in asked.kept)
    return "".join(one.name for one in asked.kept)


def shifted(x: float, y: float) -> Correction:
    return Correction(matrix=((1.0, 0.0), (0.0, 1.0)), shift=(x, y))


def test_what_is_published_is_read_bit_for_bit():
    generator = np.random.default_rng(20220830)
    (xx, xy), (yx, yy) = (np.eye(2) + 1e-5 * generator.normal(size=(2, 2))).tolist()
    turned = Correction(matrix=((xx, xy), (yx, yy)), shift=(0.1 + 0.2, -1e-17 / 3))
    written = alignment("abc", kept="b", missing=("d",), corrections={"a": turned})
    stream = io.StringIO()
    alignment_table(written).write(stream, format="ascii.ecsv")
    assert read_alignment(stream.getvalue()) == written


def test_the_same_exposures_are_aligned_as_they_were():
    assert kept_names(keeping(request("abc"), alignment("abc", kept="a"))) == "a"
    assert keeping(request("ab"), alignment("ab")) == request("ab")


def test_what_was_aligned_stays_when_exposures_come_go_or_are_replaced():
    assert kept_names(keeping(request("abcd"), alignment("abc"))) == "abc"
    assert kept_names(keeping(request("ab"), alignment("abc"))) == "ab"
    replaced = keeping(request(digests("abc") | {"c": "another cal"}), alignment("abc"))
    assert (kept_names(replaced), replaced.new) == ("ab", ("c",))


def test_what_was_first_aligned_without_an_exposure_is_aligned_again_when_it_is_back():
    assert kept_names(keeping(request("abcd"), alignment("abc", kept="a", missing=("d",)))) == "a"
    assert kept_names(keeping(request("abce"), alignment("abc", kept="a", missing=("d",)))) == "abc"


@pytest.mark.parametrize(
    "other",
    [
        {"settings": AlignSettings(enabled=True, fit="rshift")},
        {"settings": AlignSettings(enabled=True, reference_catalog="GAIADR3")},
        {"catalog": "sha256 of a file"},
    ],
)
def test_other_settings_or_another_catalogue_align_all_anew(other):
    assert keeping(request("abc", **other), alignment("ab")).kept == ()
    assert kept_names(keeping(request("abc", **other), alignment("ab", **other))) == "ab"


def test_only_the_stars_of_new_exposures_and_of_their_neighbours_are_needed():
    names = {name: f"cal of {name}" for name in FOOTPRINTS}
    earlier = Alignment(
        asked=request("").asked,
        exposures=tuple(
            AlignedExposure(name=name, sha256=names[name], kept=False, correction=NO_CORRECTION)
            for name in ("b", "c", "far")
        ),
    )
    assert needed_exposures(keeping(request(names), earlier), FOOTPRINTS) == ("a", "b")
    del names["a"], names["far"]
    assert needed_exposures(keeping(request(names), earlier), FOOTPRINTS) == ()
    assert needed_exposures(request(names), FOOTPRINTS) == ("b", "c")


def test_moves_on_the_sky_are_told():
    before = alignment("abg", corrections={"a": shifted(0.1, 0.0), "b": shifted(0.0, 0.0)})
    after = alignment("abn", corrections={"a": shifted(0.103, -0.004), "b": NO_CORRECTION, "n": shifted(9.0, 9.0)})
    told = moves(before, after)
    assert (told.exposures, told.largest) == (2, pytest.approx(5.0))
    assert told.rms == pytest.approx(5.0 / np.sqrt(2))
