"""What may take part in a mosaic, and what is refused with which reason."""

import gzip
import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysiaf
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exposure_files import DEC, RA, exposure_bytes, put, region

from cosmosaic.exposures import remembered, search
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.footprints import outside_arcsec
from cosmosaic.exposures.headers import BLOCK_BYTES, MAX_HEADER_BLOCKS, RefusalError, read_header
from cosmosaic.exposures.search import find_exposures
from cosmosaic.exposures.table import found_table
from cosmosaic.geometry.sphere import separations_deg, unit_vectors

BLOCKED = [
    ("F150W2", "F162M"), ("F150W2", "F164N"), ("F322W2", "F323N"),
    ("F444W", "F405N"), ("F444W", "F466N"), ("F444W", "F470N"),
]  # fmt: skip


def reason_of(path: Path) -> str:
    with pytest.raises(RefusalError) as caught:
        describe_exposure(str(path))
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_an_exposure_is_described_by_its_headers(tmp_path: Path) -> None:
    path = put(tmp_path, level="cal", CAL_VER="1.11.4", CRDS_CTX="jwst_1140.pmap")
    exposure = describe_exposure(str(path))
    assert (exposure.level, exposure.detector, exposure.filter, exposure.pupil) == ("cal", "NRCB1", "F115W", "CLEAR")
    assert (exposure.program, exposure.observation, exposure.visit, exposure.exposure) == (
        "01727",
        "001",
        "001",
        "02101_00001",
    )
    assert exposure.name == "jw01727001001_02101_00001_nrcb1"
    assert (exposure.calibration_version, exposure.crds_context) == ("1.11.4", "jwst_1140.pmap")
    assert exposure.exposure_time == 311.4
    assert exposure.object.size == path.stat().st_size
    assert len(exposure.object.sha256) == 64
    assert len(exposure.footprint) == 4
    assert exposure.warnings == ()


@pytest.mark.parametrize("change", [lambda path: put(path.parent, 2, FILTER="F150W"), Path.unlink])
def test_an_exposure_that_changes_during_the_search_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    paths = [put(tmp_path / "raw", number) for number in (1, 2, 3)]

    def choose_and_change(*arguments: object) -> search.FoundExposures:
        found = choose(*arguments)
        change(paths[1])
        return found

    choose = search.choose_exposures
    monkeypatch.setattr(search, "choose_exposures", choose_and_change)
    found = find_exposures(str(tmp_path / "raw"), memo=str(tmp_path / "memo"))
    assert [Path(exposure.object.uri) for exposure in found.exposures] == [paths[0], paths[2]]
    (refused,) = found.refused
    assert (refused.uri, refused.reason.split(";")[0]) == (str(paths[1]), remembered.GONE.split(";")[0])


def test_reading_the_header_does_not_read_the_data() -> None:
    class Counting(io.BytesIO):
        bytes_read = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.bytes_read += len(found)
            return found

    stream = io.BytesIO()
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2048, 2048), np.float32), name="SCI")])
    hdus.writeto(stream)
    counting = Counting(stream.getvalue())
    assert read_header(counting).sci["NAXIS1"] == 2048
    assert counting.bytes_read == 2 * BLOCK_BYTES


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"TELESCOP": "HST"}, ["TELESCOP = 'HST'", "JWST"]),
        ({"TELESCOP": None}, ["no keyword TELESCOP"]),
        ({"INSTRUME": "MIRI"}, ["INSTRUME = 'MIRI'", "NIRCAM"]),
        ({"EXP_TYPE": "NRC_TACQ"}, ["EXP_TYPE = 'NRC_TACQ'", "NRC_IMAGE"]),
        ({"TARGTYPE": "MOVING"}, ["TARGTYPE", "moving"]),
        ({"FILTER": None}, ["lacks FILTER", "primary"]),
        ({"EFFEXPTM": None, "DATE_BEG": None}, ["DATE-BEG, EFFEXPTM"]),
        ({"EFFEXPTM": 0.0}, ["EFFEXPTM"]),
        ({"V2_REF": None}, ["lacks V2_REF", "SCI"]),
        ({"RA_REF": None, "ROLL_REF": None, "V2_REF": None}, ["RA_REF, ROLL_REF, V2_REF"]),
        ({"ROLL_REF": "north"}, ["ROLL_REF = 'north'"]),
        ({"DETECTOR": "NRCA5"}, ["DETECTOR = 'NRCA5'"]),
        ({"FILTER": "WLP4"}, ["FILTER = 'WLP4'"]),
        ({"PUPIL": "GRISMR"}, ["PUPIL = 'GRISMR'"]),
        ({"PUPIL": "F150W"}, ["PUPIL = 'F150W'"]),
        ({"PUPIL": "F470N"}, ["PUPIL = 'F470N' with FILTER = 'F115W'", "F444W"]),
        ({"PCS_MODE": "COARSE"}, ["PCS_MODE = 'COARSE'", "guiding"]),
        ({"BUNIT": "MJy/sr"}, ["uncal by name", "BUNIT"]),
        ({"S_REGION": "POLYGON ICRS 150 2 151"}, ["S_REGION = 'POLYGON ICRS 150 2 151'"]),
        ({"S_REGION": "POLYGON ICRS 150 2 nan 2 150 2.01"}, ["S_REGION"]),
        ({"S_REGION": region(RA + 3.0, DEC)}, ["S_REGION", "RA_REF"]),
        ({"DEC_REF": 95.0, "S_REGION": None}, ["declination"]),
    ],
)
def test_an_exposure_that_cannot_take_part_says_which_keyword(
    tmp_path: Path, cards: dict[str, object], words: list[str]
) -> None:
    reason = reason_of(put(tmp_path, **cards))
    assert all(word in reason for word in words), reason


@pytest.mark.parametrize("cut", [1, 2879, 2880, 2881, 5760, 8000])
def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path: Path, cut: int) -> None:
    path = put(tmp_path, level="cal")
    path.write_bytes(path.read_bytes()[:-cut])
    assert "truncated" in reason_of(path)


def test_a_file_cut_in_its_first_header_is_truncated(tmp_path: Path) -> None:
    path = put(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    assert "truncated" in reason_of(path)


def test_a_hole_in_a_file_is_noticed(tmp_path: Path) -> None:
    path = put(tmp_path, level="cal")
    content = path.read_bytes()
    path.write_bytes(
        content[: len(content) // 2880 // 2 * 2880] + bytes(len(content) - len(content) // 2880 // 2 * 2880)
    )
    assert "damaged" in reason_of(path)


def test_what_is_no_fits_is_refused(tmp_path: Path) -> None:
    for name, content in (("a_uncal.fits", b"not FITS at all" * 500), ("b_uncal.fits", b"")):
        (tmp_path / name).write_bytes(content)
    assert "not a FITS file" in reason_of(tmp_path / "a_uncal.fits")
    assert "empty" in reason_of(tmp_path / "b_uncal.fits")


def test_an_endless_header_is_given_up() -> None:
    card = b"SIMPLE  =                    T".ljust(80)
    with pytest.raises(RefusalError, match="no END"):
        read_header(io.BytesIO(card * 36 * (MAX_HEADER_BLOCKS + 10)))


def test_a_claim_of_petabytes_is_a_truncation_and_allocates_nothing() -> None:
    header = fits.Header([("SIMPLE", True), ("BITPIX", -64), ("NAXIS", 3)])
    header.update({f"NAXIS{axis}": 1 << 40 for axis in (1, 2, 3)})
    with pytest.raises(RefusalError, match="truncated"):
        read_header(io.BytesIO(header.tostring().encode()))


def test_a_planned_pointing_is_a_warning(tmp_path: Path) -> None:
    assert "ENGQLPTG" in describe_exposure(str(put(tmp_path, ENGQLPTG="PLANNED"))).warnings[0]


@pytest.mark.parametrize("status", ["UNSUCCESSFUL", "PARTIAL"])
def test_an_exposure_of_a_visit_that_failed_is_kept_with_a_warning(tmp_path: Path, status: str) -> None:
    (warning,) = describe_exposure(str(put(tmp_path, VISITSTA=status))).warnings
    assert f"VISITSTA = '{status}'" in warning


def test_a_raw_exposure_is_described_with_the_shape_of_its_ramp(tmp_path: Path) -> None:
    path = put(tmp_path)
    with fits.open(path) as hdus:
        expected = hdus["SCI"].data.shape
    assert describe_exposure(str(path)).ramp == expected
    assert describe_exposure(str(put(tmp_path, level="cal"))).ramp == ()


def test_what_a_calibrated_exposure_can_do_without_is_warned_of(tmp_path: Path) -> None:
    path = put(tmp_path, level="cal", SUBARRAY=None, DATE_BEG=None, ROLL_REF=None)
    with fits.open(path, mode="update") as hdus:
        del hdus["VAR_FLAT"]
        hdus.append(hdus["SCI"].copy())
    exposure = describe_exposure(str(path))
    assert (exposure.subarray, exposure.start) == ("", "")
    assert len(exposure.warnings) == 3
    for words in ("2 extensions SCI", "VAR_FLAT", "ROLL_REF"):
        assert any(words in warning for warning in exposure.warnings)


@pytest.mark.parametrize(("wheel", "pupil"), BLOCKED)
def test_a_filter_in_the_pupil_wheel_names_the_band(tmp_path: Path, wheel: str, pupil: str) -> None:
    for name, first, second in (("a", wheel, pupil), ("b", pupil, wheel), ("c", pupil, "CLEAR")):
        exposure = describe_exposure(str(put(tmp_path / name, FILTER=first, PUPIL=second)))
        assert exposure.band == pupil


def test_a_compressed_image_is_described_as_what_it_holds(tmp_path: Path) -> None:
    path = put(tmp_path, level="cal")
    plain = describe_exposure(str(path))
    with fits.open(path, memmap=False) as hdus:
        hdus["SCI"] = fits.CompImageHDU(hdus["SCI"].data, hdus["SCI"].header, compression_type="GZIP_1")
        hdus["SCI"].name = "SCI"
        hdus.writeto(path, overwrite=True)
    with path.open("rb") as stream:
        header = read_header(stream).sci
    assert (header["NAXIS1"], header["NAXIS2"], header["BITPIX"]) == (10, 10, -32)
    assert describe_exposure(str(path)).footprint == plain.footprint


@pytest.mark.parametrize("ending", [".fits.gz", ".fits.fz", ".fits.bz2", ".FITS", ".fit"])
def test_files_under_other_endings_are_refused_by_name(tmp_path: Path, ending: str) -> None:
    path = put(tmp_path / "a", 1)
    (tmp_path / f"{path.name.removesuffix('.fits')}{ending}").write_bytes(gzip.compress(path.read_bytes()))
    put(tmp_path, 2)
    found = find_exposures(str(tmp_path))
    assert len(found.exposures) == 2
    assert [entry.uri.endswith(ending) for entry in found.refused] == [True]
    assert ("gunzip" if ending.count(".") > 1 else "rename") in found.refused[0].reason


def test_a_folder_of_compressed_files_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "jw01727001001_02101_00001_nrcb1_rate.fits.gz").write_bytes(gzip.compress(exposure_bytes("rate")))
    with pytest.raises(ValueError, match=r"none of the 1 files.*rate\.fits\.gz is compressed"):
        find_exposures(str(tmp_path))


@pytest.mark.parametrize("suffix", ["i2d", "crf", "rateints", "segm"])
def test_other_products_are_refused_by_what_they_are(tmp_path: Path, suffix: str) -> None:
    put(tmp_path)
    (tmp_path / f"jw01727001001_02101_00001_nrcb1_{suffix}.fits").write_bytes(exposure_bytes("cal"))
    found = find_exposures(str(tmp_path))
    assert len(found.exposures) == 1
    assert f"_{suffix}" in found.refused[0].reason


def test_a_name_without_level_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frame1.fits"
    path.write_bytes(exposure_bytes())
    assert "_uncal.fits" in reason_of(path)


@pytest.mark.parametrize(("detector", "aperture"), [("NRCB1", "NRCB1_FULL"), ("NRCALONG", "NRCA5_FULL")])
def test_a_footprint_without_s_region_holds_all_that_the_detector_sees(
    tmp_path: Path, detector: str, aperture: str
) -> None:
    siaf = pysiaf.Siaf("NIRCam")[aperture]
    siaf.V3IdlYAngle = 30.0  # NIRCam's own are below a degree, too small to show in which sense they turn
    roll, ra, dec = 57.0, 0.003, -30.0
    attitude = pysiaf.utils.rotations.attitude(siaf.V2Ref, siaf.V3Ref, ra, dec, roll)
    siaf.set_attitude_matrix(attitude)
    truth = np.array(siaf.corners("sky", rederive=False)).T
    headers = fits.open(io.BytesIO(exposure_bytes("rate", DETECTOR=detector)))
    headers[1].header.update(
        {"RA_REF": ra, "DEC_REF": dec, "ROLL_REF": roll, "VPARITY": siaf.VIdlParity, "V3I_YANG": siaf.V3IdlYAngle}
    )
    del headers[1].header["S_REGION"]
    headers[1].data = np.zeros((2048, 2048), np.float32)
    path = tmp_path / "jw01727001001_02101_00001_x_rate.fits"
    headers.writeto(path)
    corners = describe_exposure(str(path)).footprint
    assert outside_arcsec(corners, truth) == 0.0
    assert separations_deg(unit_vectors(corners), unit_vectors(truth)).max() * 3600 < 3.5


def test_right_ascensions_are_between_0_and_360(tmp_path: Path) -> None:
    corners = describe_exposure(str(put(tmp_path, ra=0.0))).footprint
    assert all(0.0 <= ra < 360.0 for ra, _ in corners)


def test_nothing_under_the_prefix_says_what_was_looked_for_and_where(tmp_path: Path) -> None:
    for prefix in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match=r"_uncal\.fits") as caught:
            find_exposures(str(prefix))
        assert str(prefix) in str(caught.value)


def test_a_filter_that_nobody_observed_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2)
    put(tmp_path, 3, FILTER="F150W")
    with pytest.raises(ValueError, match=r"no exposure in F444W.*F115W \(2 exposures\), F150W \(1 exposures\)"):
        find_exposures(str(tmp_path), ["F115W", "F444W"])


def test_only_the_filters_asked_for_take_part_and_the_pupil_decides(tmp_path: Path) -> None:
    put(tmp_path, 1, FILTER="F444W", PUPIL="F470N", DETECTOR="NRCBLONG")
    put(tmp_path, 2, FILTER="F444W", DETECTOR="NRCBLONG")
    narrow, wide = (find_exposures(str(tmp_path), [name]) for name in ("F470N", "F444W"))
    assert [exposure.band for exposure in narrow.exposures] == ["F470N"]
    assert [exposure.band for exposure in wide.exposures] == ["F444W"]
    assert wide.refused == ()
    assert "F470N" in wide.unasked[0].reason
    assert list(found_table(wide.exposures, wide.refused, wide.unasked)["status"]) == ["not asked for", "accepted"]


def test_files_at_any_depth_are_found(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b", 1)
    put(tmp_path, 2)
    assert len(find_exposures(str(tmp_path)).exposures) == 2


def test_of_one_exposure_at_several_levels_the_raw_one_enters(tmp_path: Path) -> None:
    put(tmp_path / "calibrated", level="cal")
    put(tmp_path / "raw", level="uncal")
    found = find_exposures(str(tmp_path))
    assert [exposure.level for exposure in found.exposures] == ["uncal"]
    assert "raw/" in found.refused[0].reason
    assert "which is used" in found.refused[0].reason


def test_a_copy_is_refused_as_duplicate_of_the_first(tmp_path: Path) -> None:
    first = put(tmp_path / "a")
    (tmp_path / "b").mkdir()
    shutil.copy(first, tmp_path / "b")
    found = find_exposures(str(tmp_path))
    assert [exposure.object.uri for exposure in found.exposures] == [str(first)]
    assert f"duplicate of {first}" in found.refused[0].reason


def test_the_same_exposure_in_other_bytes_is_refused_by_name(tmp_path: Path) -> None:
    first, _ = put(tmp_path / "a"), put(tmp_path / "b", EFFEXPTM=311.5)
    (refused,) = find_exposures(str(tmp_path)).refused
    assert f"same exposure as {first}, with different bytes" in refused.reason


def test_two_exposures_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    put(tmp_path / "a", 1)
    put(tmp_path / "b", 1, EXPOSURE="00002")
    (refused,) = find_exposures(str(tmp_path)).refused
    assert "a different exposure" in refused.reason


def test_an_exposure_a_degree_away_is_refused_with_its_distance(tmp_path: Path) -> None:
    for number in range(1, 4):
        put(tmp_path, number)
    put(tmp_path, 4, dec=DEC + 5.0)
    found = find_exposures(str(tmp_path))
    assert len(found.exposures) == 3
    (refused,) = found.refused
    assert "5.00 deg" in refused.reason
    assert "jw01727001001_02101_00004_nrcb1" in refused.reason


def test_a_survey_across_ra_zero_is_one_survey(tmp_path: Path) -> None:
    for number, ra in enumerate((359.98, 359.99, 0.01, 0.02), start=1):
        put(tmp_path, number, ra=ra)
    found = find_exposures(str(tmp_path))
    assert len(found.exposures) == 4
    ra = found_table(found.exposures, found.refused)["ra"]
    assert sorted(ra.round(2)) == [0.01, 0.02, 359.98, 359.99]


def test_fields_far_apart_are_not_parted_by_this_step(tmp_path: Path) -> None:
    for number, offset in enumerate((0, 0, 10, 20, 20), start=1):
        put(tmp_path, number, dec=DEC + offset)
    assert len(find_exposures(str(tmp_path)).exposures) == 5


def test_mixed_calibrations_are_warned_of_by_name(tmp_path: Path) -> None:
    for number, version in enumerate(("1.11.4", "1.11.4", "1.9.6"), start=1):
        put(tmp_path, number, "cal", CAL_VER=version, CRDS_CTX="jwst_1140.pmap")
    put(tmp_path, 4, "uncal", CAL_VER="1.0")
    exposures = find_exposures(str(tmp_path)).exposures
    assert [len(exposure.warnings) for exposure in exposures] == [0, 0, 1, 0]
    assert "_00003_nrcb1_cal.fits has CAL_VER = '1.9.6', most cal exposures have '1.11.4'" in exposures[2].warnings[0]


def test_no_acceptable_file_ends_the_run_with_the_reasons(tmp_path: Path) -> None:
    put(tmp_path, EXP_TYPE="NRC_DARK")
    with pytest.raises(ValueError, match=r"none of the 1 files.*NRC_DARK"):
        find_exposures(str(tmp_path))


def test_the_table_has_one_row_per_file(tmp_path: Path) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2, EXP_TYPE="NRC_DARK")
    found = find_exposures(str(tmp_path))
    table = found_table(found.exposures, found.refused)
    assert table["status"].tolist() == ["accepted", "refused"]
    assert table["uri"].tolist() == sorted(str(path) for path in tmp_path.glob("jw*.fits"))
    assert table.loc[0, "ra"] == pytest.approx(RA)
    assert table.loc[0, "sha256"] == found.exposures[0].object.sha256
    assert table.loc[0, "exposure_time_s"] == 311.4
    assert "NRC_DARK" in table.loc[1, "reason"]
    assert table.loc[1].isna()["sha256"]


def test_a_table_without_rows_keeps_its_columns() -> None:
    assert "reason" in found_table([], []).columns


def test_a_thousand_exposures_are_described_in_seconds(tmp_path: Path) -> None:
    template = exposure_bytes()
    for number in range(1000):
        content = template.replace(b"'00001   '", f"'{number:05d}   '".encode())
        (tmp_path / f"jw01727001001_02101_{number:05d}_nrcb1_uncal.fits").write_bytes(content)
    started = time.process_time()
    assert len(find_exposures(str(tmp_path)).exposures) == 1000
    assert time.process_time() - started < 15.0


VALID = exposure_bytes("cal")


def refusal_or_nothing(path: Path) -> str:
    try:
        describe_exposure(str(path))
    except RefusalError as error:
        return str(error)
    return ""


@settings(max_examples=150, deadline=2000)
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=90)), max_size=6),
    st.one_of(st.none(), st.integers(0, len(VALID))),
)
def test_damaged_bytes_are_read_or_refused_but_never_crash(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[int, bytes]], length: int | None
) -> None:
    content = bytearray(VALID)
    for position, damage in damages:
        content[position : position + len(damage)] = damage
    path = tmp_path_factory.getbasetemp() / "fuzz_cal.fits"
    path.write_bytes(bytes(content[:length]))
    assert len(refusal_or_nothing(path)) < 2000


@settings(max_examples=150, deadline=2000)
@given(st.data())
def test_damaged_cards_are_read_or_refused_but_never_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(VALID)
    cards = [i for i in range(0, len(VALID), 80) if VALID[i + 8 : i + 10] == b"= " and VALID[i : i + 1].isupper()]
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.sampled_from(cards))
        value = data.draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70))
        content[start + 10 : start + 80] = value.encode().ljust(70)
    path = tmp_path_factory.getbasetemp() / "fuzz_cal.fits"
    path.write_bytes(bytes(content))
    assert len(refusal_or_nothing(path)) < 2000
