"""What the last run finished is known from one object and a listing, and from nothing that changed since."""

import time

import pytest
from support.bad_network import between
from support.s3_server import forget_stores

from cosmosaic.steps.manifest import RESULTS, read_manifest, write_manifest
from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store

pytestmark = [pytest.mark.s3]

STEPS = 12
TICK_S = 1.1
"""S3 tells the times of objects in whole seconds."""


@pytest.fixture
def finished(bucket) -> list[StepResult]:
    """Steps of three files each in the cache, and the records that say so."""
    return [finish(bucket, f"{number:032}") for number in range(STEPS)]


def finish(bucket: str, key: str, content: bytes = b"seen") -> StepResult:
    files = {name: store.publish_bytes(content, f"{bucket}/cache/step/{key}/{name}") for name in "abc"}
    store.publish_bytes(b"{}", f"{bucket}/cache/{RESULTS}/{key}")
    return StepResult(step="step", key=key, files=files, cpu_s=1.0, wall_s=1.0, peak_mb=1.0)


def known(bucket: str) -> dict[str, StepResult]:
    return read_manifest(f"{bucket}/cache", "small", f"{bucket}/products")


def test_what_is_unaltered_is_known_and_nothing_else(bucket, finished):
    write_manifest(f"{bucket}/cache", "small", finished, f"{bucket}/products")
    assert known(bucket) == {result.key: result for result in finished}
    altered, removed = finished[3], finished[7]
    store.publish_bytes(b"seem", altered.objects[1].uri)
    store.remove(removed.objects[2].uri)
    assert known(bucket).keys() == {result.key for result in finished} - {altered.key, removed.key}


def test_a_file_written_after_the_step_had_ended_is_not_believed(bucket, finished):
    time.sleep(TICK_S)
    store.publish_bytes(b"seem", finished[5].objects[0].uri)
    write_manifest(f"{bucket}/cache", "small", finished, f"{bucket}/products")
    assert known(bucket).keys() == {result.key for result in finished} - {finished[5].key}


def test_a_damaged_manifest_is_none(bucket, finished):
    write_manifest(f"{bucket}/cache", "small", finished, f"{bucket}/products")
    uri = f"{bucket}/cache/manifests/small.json.gz"
    for damaged in (store.read_bytes(uri)[:-20], b"", b"{}", b"\x1f\x8b"):
        store.publish_bytes(damaged, uri)
        assert known(bucket) == {}


def test_it_takes_a_few_requests_however_many_steps_there_are(s3, bucket, finished, monkeypatch):
    write_manifest(f"{bucket}/cache", "small", finished, f"{bucket}/products")
    with between(s3.port) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        forget_stores()
        assert len(known(bucket)) == STEPS
    assert network.requests <= 4


def test_a_folder_has_none(tmp_path):
    write_manifest(str(tmp_path), "small", [], str(tmp_path))
    assert list(tmp_path.iterdir()) == []
