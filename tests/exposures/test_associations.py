"""Exposures of one filter belong together, and the jwst package reads what is written."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from jwst.associations import load_asn
from jwst.associations.asn_from_list import Main as AsnFromList
from real import real

from cosmosaic.exposures.associations import (
    AssociationError,
    AssociationFile,
    association_json,
    check_same_band,
    make_associations,
    missing_members,
    read_association,
    select_exposures,
)
from cosmosaic.exposures.members import Member, digest_of, list_members
from cosmosaic.records import Exposure, RefusedFile, StoredObject


def exposure(number: int, filter_name: str = "F115W", pupil: str = "CLEAR", level: str = "uncal") -> Exposure:
    name = f"jw01727001001_02101_{number:05d}_nrcb1"
    return Exposure(
        object=StoredObject(uri=f"/raw/{name}_{level}.fits", sha256=f"{number:064d}", size=1),
        level=level,
        program="01727",
        observation="001",
        visit="001",
        exposure=f"02101_{number:05d}",
        detector="NRCB1",
        filter=filter_name,
        pupil=pupil,
        subarray="FULL",
        start="2023-01-05T10:00:00.000",
        exposure_time=311.4,
        footprint=((150.0, 2.0), (150.1, 2.0), (150.1, 2.1)),
    )


FRAMES = [exposure(3), exposure(1), exposure(2, "F150W"), exposure(4, "F444W", "F470N"), exposure(5, "F444W")]


def test_each_filter_has_an_association_of_its_own() -> None:
    made = make_associations(FRAMES, "cosmos")
    assert [(a.band, a.product_name, len(a.members)) for a in made] == [
        ("F115W", "cosmos_f115w", 2),
        ("F150W", "cosmos_f150w", 1),
        ("F444W", "cosmos_f444w", 1),
        ("F470N", "cosmos_f470n", 1),
    ]
    assert made[0].members == (exposure(1).name, exposure(3).name)


def test_headers_that_swap_the_wheels_are_of_one_band() -> None:
    exposures = [exposure(1, "F444W", "F470N"), exposure(2, "F470N", "F444W"), exposure(3, "F470N", "CLEAR")]
    (association,) = make_associations(exposures, "cosmos")
    assert (association.band, association.filter, association.pupil) == ("F470N", "F444W", "F470N")
    assert len(association.members) == 3


def test_the_order_of_the_exposures_does_not_matter() -> None:
    assert make_associations(FRAMES, "cosmos") == make_associations(reversed(FRAMES), "cosmos")


def test_two_exposures_of_one_name_are_refused() -> None:
    with pytest.raises(AssociationError, match="same name"):
        make_associations([exposure(1), exposure(1, level="cal")], "cosmos")


def test_jwst_reads_the_association_as_its_own() -> None:
    association = make_associations(FRAMES, "cosmos")[0]
    text = association_json(association, {name: f"{name}_cal.fits" for name in association.members})
    loaded = load_asn(text, validate=True)
    assert loaded["asn_type"] == "image3"
    assert loaded["products"][0]["name"] == "cosmos_f115w"
    assert [member["expname"] for member in loaded["products"][0]["members"]] == [
        f"{name}_cal.fits" for name in association.members
    ]
    assert text == association_json(association, {name: f"{name}_cal.fits" for name in reversed(association.members)})


def test_an_association_holds_file_names_and_no_folders() -> None:
    association = make_associations(FRAMES, "cosmos")[1]
    (name,) = association.members
    with pytest.raises(AssociationError, match="folder"):
        association_json(association, {name: f"/scratch/{name}_cal.fits"})
    with pytest.raises(AssociationError, match=name):
        association_json(association, {})


def test_an_association_of_asn_from_list_selects_its_exposures(tmp_path: Path) -> None:
    path = tmp_path / "mosaic_asn.json"
    files = [f"{exposure(n).name}_cal.fits" for n in (3, 1)]
    AsnFromList.cli(["-o", str(path), "--product-name", "my_mosaic", *files])
    asked = read_association(str(path))
    assert asked.product_name == "my_mosaic"
    assert select_exposures(FRAMES, asked, str(path)) == [exposure(3), exposure(1)]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    association = make_associations(FRAMES, "cosmos")[0]
    path = tmp_path / "cosmos_f115w_asn.json"
    path.write_text(association_json(association, {name: f"{name}_cal.fits" for name in association.members}))
    chosen = select_exposures(FRAMES, read_association(str(path)), str(path))
    assert tuple(one.name for one in chosen) == association.members


def test_filters_mixed_in_one_association_are_refused_file_by_file(tmp_path: Path) -> None:
    path = tmp_path / "asn.json"
    AsnFromList.cli(["-o", str(path), "--product-name", "m", *(f"{exposure(n).name}_cal.fits" for n in (1, 2, 3))])
    with pytest.raises(AssociationError, match="mixed") as caught:
        select_exposures(FRAMES, read_association(str(path)), str(path))
    for number, band in ((1, "F115W"), (2, "F150W"), (3, "F115W")):
        assert exposure(number).object.name in str(caught.value)
        assert band in str(caught.value)
    check_same_band([exposure(1), exposure(3)])


def test_members_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "asn.json"
    AsnFromList.cli(["-o", str(path), "--product-name", "m", f"{exposure(9).name}_cal.fits"])
    with pytest.raises(AssociationError, match=f"{path}.*{exposure(9).name}"):
        select_exposures(FRAMES, read_association(str(path)), str(path))


SUFFIXES = ["cal", "tweakreg", "a3001_match", "a3001_crf", "o001_crf", "i2d", "jhat", "destrip_wisp_v2", "bkgsub-2"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_members_are_matched_by_the_exposure_whatever_follows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "asn.json"
    files = [f"calibrated/{exposure(n).name}_{suffix}.fits" for n in (3, 1)]
    AsnFromList.cli(["-o", str(path), "--product-name", "m", *files])
    asked = read_association(str(path))
    assert select_exposures(FRAMES, asked, str(path)) == [exposure(3), exposure(1)]
    assert missing_members(FRAMES, [], asked, str(path)) == ()


def test_what_is_there_is_used_and_what_is_not_is_told_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "asn.json"
    files = [f"{exposure(n).name}_tweakreg.fits" for n in (1, 8, 9)]
    AsnFromList.cli(["-o", str(path), "--product-name", "m", *files, f"{exposure(1).name}_crf.fits"])
    asked = read_association(str(path))
    assert select_exposures(FRAMES, asked, str(path)) == [exposure(1)]
    refused = [RefusedFile(uri=f"s3://b/raw/{exposure(8).name}_uncal.fits", reason="is truncated: by far")]
    eighth, ninth = missing_members(FRAMES, refused, asked, str(path))
    assert (eighth.uri, ninth.uri) == tuple(file.removesuffix(".fits") for file in files[1:])
    assert f"{path}, and is not used: {exposure(8).name}_uncal.fits is truncated" in eighth.reason
    assert "there is no file of this exposure under raw" in ninth.reason


def test_a_name_is_matched_by_whole_words(tmp_path: Path) -> None:
    renamed = [
        exposure(1).model_copy(update={"object": StoredObject(uri=f"/raw/{name}_uncal.fits", sha256="", size=1)})
        for name in ("field_1", "field_12")
    ]
    asked = AssociationFile(product_name="m", members=("field_12_a3001_crf", "field_123_cal"))
    assert select_exposures(renamed, asked, "a.json") == [renamed[1]]
    assert [entry.uri for entry in missing_members(renamed, [], asked, "a.json")] == ["field_123_cal"]


@pytest.mark.parametrize("name", ["epoch1_f115w_final", "epoch1_f444w_final", "nircam1_f150w"])
def test_associations_of_a_real_survey_select_the_raw_exposures(name: str) -> None:
    path = real(f"associations/{name}.json")
    members = [Path(each["expname"]).name for each in json.loads(path.read_text())["products"][0]["members"]]
    names = ["_".join(member.split("_")[:4]) for member in members]
    raw = [
        exposure(1).model_copy(update={"object": StoredObject(uri=f"/raw/{each}_uncal.fits", sha256="", size=1)})
        for each in names
    ]
    asked = read_association(str(path))
    assert [each.name for each in select_exposures(raw, asked, str(path))] == names
    some = select_exposures(raw[::2], asked, str(path))
    missing = missing_members(raw[::2], [], asked, str(path))
    assert len(some) + len(missing) == len(names)


def document(**changes: object) -> dict[str, object]:
    member = {"expname": "a_cal.fits", "exptype": "science"}
    return {"products": [{"name": "p", "members": [member]} | changes]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("products: [a]", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "not hold a JSON object"),
        ("{}", "no products"),
        (json.dumps({"products": document()["products"] * 2}), "2 products"),  # type: ignore[operator]
        (json.dumps(document(name=None)), "no name"),
        (json.dumps(document(members="a")), "no list of members"),
        (json.dumps(document(members=[])), "no member with exptype"),
        (json.dumps(document(members=[{"exptype": "science"}])), "no expname"),
        (json.dumps(document(members=[{"expname": "a_cal.fits"}])), "no exptype"),
        (json.dumps(document(members=[{"expname": "a_cal.fits", "exptype": "science"}] * 2)), "more than once"),
    ],
)
def test_a_bad_association_names_its_file_and_fault(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad_asn.json"
    path.write_text(content)
    with pytest.raises(AssociationError, match=words) as caught:
        read_association(str(path))
    assert str(path) in str(caught.value)


def test_members_that_are_no_science_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "asn.json"
    background = {"expname": "b_cal.fits", "exptype": "background"}
    path.write_text(json.dumps(document(members=[background, {"expname": "dir/a_rate.fits", "exptype": "science"}])))
    assert read_association(str(path)).members == ("a_rate",)


def test_the_members_of_a_mosaic_are_listed_with_their_checksums(tmp_path):
    members = [exposure(2), exposure(1)]
    made = list_members(tuple(Member.of(each) for each in members), "cosmos_f115w", tmp_path)
    path = made.files["members"]
    assert path == tmp_path / "cosmos_f115w_members.parquet"
    table = pd.read_parquet(path)
    assert list(table["file"]) == [f"{name}_uncal.fits" for name in table["exposure"]]
    assert list(table["exposure"]) == [each.name for each in members]
    assert list(table["sha256"]) == [f"{number:064d}" for number in (2, 1)]
    assert list(table["exposure_time_s"]) == [each.exposure_time for each in members]


def test_the_checksum_of_many_files_is_that_of_their_sha256sum_listing():
    first, second = exposure(1), exposure(2)
    listing = f"{1:064d}  {first.object.name}\n{2:064d}  {second.object.name}\n"
    assert digest_of([second, first]) == hashlib.sha256(listing.encode()).hexdigest()
    assert digest_of([first]) != digest_of([first, second])
