"""Prefect's record of a finished step takes one request to write or to find that there is none, and is believed only as
long as the files that it names are unaltered."""

import asyncio

import pytest
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import JSONSerializer
from support.bad_network import between
from support.s3_server import forget_stores

from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store
from tasks.runtime.records import StepRecords

pytestmark = [pytest.mark.s3]

KEY = "0" * 32


@pytest.fixture
def made(bucket):
    """A file that a step made."""
    return store.publish_bytes(b"pixels", f"{bucket}/cache/step/{KEY}/a.fits")


@pytest.fixture
def content(made):
    """The record of its step."""
    result = StepResult(step="step", key=KEY, files={"a": made}, cpu_s=1.0, wall_s=1.0, peak_mb=1.0)
    metadata = ResultRecordMetadata(serializer=JSONSerializer(), storage_key=KEY)
    return ResultRecord(result=result, metadata=metadata).serialize()


@pytest.fixture
def records(bucket):
    return StepRecords(basepath=f"{bucket}/cache/results")


def test_a_record_takes_one_request(s3, bucket, records, content, monkeypatch):
    with between(s3.port) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        forget_stores()
        with pytest.raises(FileNotFoundError):
            records.read_path(KEY, _sync=True)
        assert network.requests == 1
        written = records.write_path(KEY, content, _sync=True)
        assert network.requests == 2
        assert records.read_path(KEY, _sync=True) == content
        assert network.requests == 4  # the file that it names is looked at
        assert asyncio.run(records.awrite_path(KEY, content)) == written == f"{bucket}/cache/results/{KEY}"
        assert asyncio.run(records.aread_path(KEY)) == content


def test_a_record_whose_file_is_altered_or_missing_cannot_be_read(records, content, made):
    records.write_path(KEY, content)
    assert records.read_path(KEY) == content
    store.publish_bytes(b"pixelz", made.uri)
    with pytest.raises(ValueError, match="missing or altered"):
        records.read_path(KEY)
    store.remove(made.uri)
    with pytest.raises(ValueError, match="missing or altered"):
        records.read_path(KEY)


def test_half_a_record_cannot_be_read(records, content):
    records.write_path(KEY, content[: len(content) // 2])
    with pytest.raises(ValueError, match="incomplete"):
        records.read_path(KEY)
