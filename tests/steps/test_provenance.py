"""Headers that say how a file was made, and nothing that differs between equal runs."""

import shutil
import warnings
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from real import real
from stdatamodels.jwst import datamodels

from cosmosaic.provenance import NO_DATE, save_model, stamp
from cosmosaic.records import Reference, StoredObject

INPUT = StoredObject(uri="s3://bucket/raw/jw01727001001_02101_00001_nrcblong_uncal.fits", sha256="a" * 64, size=1)
GAIN = Reference(kind="gain", name="nircam_gain_0097.fits", path="/crds/nircam_gain_0097.fits", sha256="b" * 64)


def image(path):
    model = datamodels.ImageModel((8, 8))
    model.cal_logs = {"detector1": ["2022-08-30 12:00:00 host user"]}
    return save_model(model, path)


@pytest.fixture
def stamped(tmp_path):
    path = image(tmp_path / "a_rate.fits")
    stamp(path, "calibrate_ramp", "0" * 32, (INPUT,), (GAIN,))
    return path


def test_header_names_step_key_inputs_and_references(stamped):
    header = fits.getheader(stamped)
    assert (header["CMSTEP"], header["CMKEY"]) == ("calibrate_ramp", "0" * 32)
    table = Table.read(stamped, hdu="PROVENANCE")
    assert [tuple(map(str, row)) for row in table] == [
        ("input", INPUT.name, INPUT.sha256),
        ("gain", GAIN.name, GAIN.sha256),
    ]


def test_file_tells_neither_when_nor_where_it_was_made(stamped, tmp_path):
    content = stamped.read_bytes()
    assert fits.getheader(stamped)["DATE"] == NO_DATE
    for trace in (b"2022-08-30", b"host", str(tmp_path).encode(), b"s3://"):
        assert trace not in content


def test_stamping_again_replaces_the_table(stamped):
    stamp(stamped, "calibrate_rate", "1" * 32, (INPUT, INPUT), ())
    assert [hdu.name for hdu in fits.open(stamped)].count("PROVENANCE") == 1
    assert len(Table.read(stamped, hdu="PROVENANCE")) == 2


def test_stamped_file_opens_in_jwst(stamped):
    with datamodels.open(stamped) as model:
        assert model.data.shape == (8, 8)


def test_order_in_which_asdf_met_its_extensions_does_not_show(stamped, tmp_path):
    content = stamped.read_bytes()
    first, second = b"  - !core/x\n    extension_uri: a\n", b"  - !core/x\n    extension_uri: b\n    software: c\n"
    start = content.index(b"\n  extensions:\n") + len(b"\n  extensions:\n")
    made = []
    for entries in (first + second, second + first):
        path = tmp_path / "other.fits"
        path.write_bytes(content[:start] + entries + content[start + len(entries) :])
        stamp(path, "calibrate_ramp", "0" * 32, (INPUT,), (GAIN,))
        made.append(path.read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("lost", [(), ("DATE-BEG", "DATE-AVG", "DATE-END")])
def test_a_product_of_a_real_exposure_opens_without_a_warning(tmp_path: Path, lost: tuple[str, ...]) -> None:
    path = Path(shutil.copy(real("cal/*_cal.fits"), tmp_path))
    with fits.open(path, mode="update") as hdus:
        before = hdus["SCI"].header.copy()
        for keyword in lost:
            del hdus["SCI"].header[keyword]
    stamp(path, "step", "key", (), ())
    with fits.open(path) as hdus, warnings.catch_warnings():
        warnings.simplefilter("error")
        WCS(hdus["SCI"].header)
        assert hdus["SCI"].header["DATE-BEG"] == before["DATE-BEG"]
        assert hdus["SCI"].header["OBSGEO-H"] > 1e9
