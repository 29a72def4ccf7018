"""Prefect's record of a finished step takes one request to read, to write, or to find that there is none."""

import asyncio

import pytest
from support.bad_network import between
from support.s3_server import forget_stores

from tasks.runtime.records import StepRecords

pytestmark = [pytest.mark.s3]

KEY, CONTENT = "0" * 32, b'{"result": 1}'


def test_a_record_takes_one_request(s3, bucket, monkeypatch):
    records = StepRecords(basepath=f"{bucket}/cache/results")
    with between(s3.port) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        forget_stores()
        with pytest.raises(FileNotFoundError):
            records.read_path(KEY, _sync=True)
        assert network.requests == 1
        written = records.write_path(KEY, CONTENT, _sync=True)
        assert records.read_path(KEY, _sync=True) == CONTENT
        assert network.requests == 3
        assert asyncio.run(records.awrite_path(KEY, CONTENT)) == written == f"{bucket}/cache/results/{KEY}"
        assert asyncio.run(records.aread_path(KEY)) == CONTENT
        assert network.requests == 5
