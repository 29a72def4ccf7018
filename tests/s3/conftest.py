"""Fixtures: the S3 server's keys in the environment and a bucket for each test."""

import os
import uuid
from pathlib import Path

import numpy as np
import pytest
import s3fs
from astropy.io import fits
from support.s3_server import S3Server, forget_stores


@pytest.fixture
def s3(s3_server, monkeypatch) -> S3Server:
    """The server, with its keys in the environment as a user has them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    forget_stores()
    yield s3_server
    forget_stores()


@pytest.fixture
def bucket(s3) -> str:
    """URL of an empty bucket."""
    name = f"survey-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def large_frame(tmp_path_factory) -> Path:
    """An exposure of 160 MB: its headers lie far apart."""
    path = tmp_path_factory.mktemp("large") / "jw01727001001_02101_00001_nrcblong_uncal.fits"
    ramp = fits.ImageHDU(np.zeros((1, 10, 2048, 2048), np.uint16), name="SCI")
    after = [fits.ImageHDU(np.zeros((2048, 2048), np.float32), name=name) for name in ("ZEROFRAME", "GROUP", "LAST")]
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "JWST"
    fits.HDUList([primary, ramp, *after]).writeto(path)
    return path
