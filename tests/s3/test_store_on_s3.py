"""The store keeps its promises on a real S3 server as it does in a folder."""

import dataclasses
import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import botocore.session
import pytest
import s3fs
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from support.bad_network import between
from support.exposure_files import put
from support.s3_server import forget_stores

from cosmosaic.exposures import search
from cosmosaic.exposures.headers import read_header
from cosmosaic.exposures.search import find_exposures
from cosmosaic.records import StoredObject
from cosmosaic.storage import checksums, objects, remote, store, transfer
from cosmosaic.storage import memo as storage_memo

OBJECTS = int(os.environ.get("COSMOSAIC_OBJECTS", "1200"))
"""Objects to list, a thousand at once; `COSMOSAIC_OBJECTS=10000` takes some minutes, for the server writes slowly."""

pytestmark = pytest.mark.s3


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "work" / "frame.fits"
    path.parent.mkdir()
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.fixture
def network(s3, monkeypatch):
    """The server behind a network that the test can make worse."""
    with between(s3.port) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        forget_stores()
        yield network


def test_published_object_has_the_checksum_of_its_bytes(bucket, file, tmp_path):
    stored = store.publish(file, f"{bucket}/a/frame.fits")
    assert stored.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert store.checksum(stored.uri) == stored
    assert store.is_intact(stored)
    assert store.fetch(stored, tmp_path).read_bytes() == file.read_bytes()


def test_altered_and_deleted_objects_are_noticed(bucket, file):
    stored = store.publish(file, f"{bucket}/frame.fits")
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    s3fs.S3FileSystem().pipe(stored.uri, bytes(content))
    assert not store.is_intact(stored)
    with pytest.raises(store.AlteredObjectError, match=r"frame\.fits"):
        store.copy(stored, f"{bucket}/products/frame.fits", file.parent)
    store.remove(stored.uri)
    assert not store.is_intact(stored)
    assert store.stat(stored.uri) is None


def test_bytes_that_are_not_those_recorded_never_reach_the_scratch_folder(bucket, file, tmp_path):
    stored = store.publish(file, f"{bucket}/frame.fits")
    s3fs.S3FileSystem().pipe(stored.uri, b"something else")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(store.AlteredObjectError):
        store.fetch(stored, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_copy_within_the_store_moves_no_bytes(network, bucket, file, tmp_path):
    stored = store.publish(file, f"{bucket}/cache/frame.fits")
    network.forget()
    copied = store.copy(stored, f"{bucket}/products/frame.fits", tmp_path)
    assert network.bytes_down < 10_000
    assert store.is_intact(copied)
    assert not list(tmp_path.glob("*.fits"))


def test_an_object_takes_one_request_to_publish_to_copy_and_to_read(network, bucket, file, tmp_path):
    network.forget()
    stored = store.publish_once(file, f"{bucket}/cache/frame.fits")
    assert network.requests == 1
    assert stored.version == store.stat(stored.uri).version
    network.forget()
    copied = store.copy(stored, f"{bucket}/products/frame.fits", tmp_path)
    assert network.requests == 1
    assert copied.version == store.stat(copied.uri).version
    network.forget()
    assert store.read_bytes(copied.uri) == file.read_bytes()
    with pytest.raises(FileNotFoundError):
        store.read_bytes(f"{bucket}/nothing")
    assert network.requests == 2


@pytest.mark.parametrize("known", [True, False])
def test_bytes_that_are_not_those_recorded_are_not_copied_unnoticed(bucket, file, tmp_path, known):
    stored = store.publish(file, f"{bucket}/cache/frame.fits")
    s3fs.S3FileSystem().pipe(stored.uri, b"x" * stored.size)
    recorded = stored if known else dataclasses.replace(stored, version="")
    with pytest.raises(store.AlteredObjectError, match=r"frame\.fits"):
        store.copy(recorded, f"{bucket}/products/frame.fits", tmp_path)


def test_large_objects_go_in_parts_and_come_back_whole(bucket, tmp_path):
    path = tmp_path / "large.fits"
    with path.open("wb") as stream:
        for _ in range(110):
            stream.write(os.urandom(1 << 20))
    stored = store.publish(path, f"{bucket}/large.fits")
    assert "-" in store.stat(stored.uri).version
    assert store.is_intact(stored)
    (tmp_path / "back").mkdir()
    assert store.checksum(str(store.fetch(stored, tmp_path / "back"))).sha256 == stored.sha256


def test_parts_that_a_dead_writer_left_are_given_up_when_they_are_old(bucket, monkeypatch):
    filesystem = s3fs.S3FileSystem()
    for key in ("demo/cache/large.fits", "other/large.fits"):
        upload = filesystem.call_s3("create_multipart_upload", Bucket=bucket[5:], Key=key)
        filesystem.call_s3(
            "upload_part", Bucket=bucket[5:], Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * 1000
        )
    assert store.clean(f"{bucket}/demo") == []
    monkeypatch.setattr(objects, "LONGEST_UPLOAD_S", -60.0)
    assert store.clean(f"{bucket}/demo") == [f"{bucket}/demo/cache/large.fits"]
    left = filesystem.call_s3("list_multipart_uploads", Bucket=bucket[5:])["Uploads"]
    assert [upload["Key"] for upload in left] == ["other/large.fits"]


def test_more_objects_than_a_store_lists_at_once_are_listed_whole(bucket):
    names = [f"raw/{number % 100:02d}/jw{number:05d}_uncal.fits" for number in range(OBJECTS)]
    filesystem = s3fs.S3FileSystem()
    filesystem.pipe({f"{bucket}/{name}": b"x" for name in names}, batch_size=16)
    listed = [found.uri for found in store.list_objects(f"{bucket}/raw", "*_uncal.fits")]
    assert listed == [f"{bucket}/{name}" for name in sorted(names)]


def test_a_new_object_is_not_overwritten(bucket, file):
    first = store.publish(file, f"{bucket}/frame.fits")
    with pytest.raises(remote.ObjectExistsError):
        remote.upload(file, first.uri, first.sha256, new=True)


def test_two_at_once_on_one_object_leave_one_whole_object(bucket, file):
    stored = []
    writers = [
        threading.Thread(target=lambda: stored.append(store.publish_once(file, f"{bucket}/x.fits"))) for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(stored) == 4
    assert len(set(stored)) == 1
    assert store.is_intact(stored[0])


def test_what_is_there_in_other_bytes_is_replaced(bucket, file):
    s3fs.S3FileSystem().pipe(f"{bucket}/x.fits", b"corrupted")
    assert store.is_intact(store.publish_once(file, f"{bucket}/x.fits"))


def test_listing_is_deep_sorted_and_by_pattern(bucket):
    filesystem = s3fs.S3FileSystem()
    names = ["b/x_rate.fits", "a/y_uncal.fits", "a/deep/er/z_uncal.fits", "a-b/w_cal.fits", "a/readme.txt", "a/.x.fits"]
    for name in names:
        filesystem.pipe(f"{bucket}/raw/{name}", b"x")
    filesystem.pipe(f"{bucket}/raw2/other.fits", b"x")
    listed = [found.uri for found in store.list_objects(f"{bucket}/raw", "*.fits")]
    expected = ["a-b/w_cal.fits", "a/deep/er/z_uncal.fits", "a/y_uncal.fits", "b/x_rate.fits"]
    assert listed == [f"{bucket}/raw/{name}" for name in expected]
    assert list(store.list_objects(f"{bucket}/nothing")) == []


def test_listing_comes_page_by_page(network, bucket, monkeypatch):
    filesystem = s3fs.S3FileSystem()
    for number in range(25):
        filesystem.pipe(f"{bucket}/raw/{number:03d}_uncal.fits", b"x")
    monkeypatch.setattr(remote, "LISTED_AT_ONCE", 10)
    network.forget()
    listing = store.list_objects(f"{bucket}/raw")
    first = next(listing)
    assert network.requests == 1
    assert [first.name, *(found.name for found in listing)] == [f"{number:03d}_uncal.fits" for number in range(25)]
    assert network.requests == 3


def test_header_of_a_large_exposure_moves_at_most_one_megabyte(network, bucket, large_frame):
    store.publish(large_frame, f"{bucket}/raw/{large_frame.name}")
    network.forget()
    with store.open_object(f"{bucket}/raw/{large_frame.name}") as stream:
        headers = read_header(stream)
    assert headers.primary["TELESCOP"] == "JWST"
    assert headers.extensions[-1] == "LAST"
    assert large_frame.stat().st_size > 100e6
    assert network.bytes_down < 1e6


@pytest.mark.slow
def test_a_thousand_exposures_are_listed_and_described(bucket, tmp_path):
    paths = [put(tmp_path, number) for number in range(1, 1001)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: store.publish(path, f"{bucket}/raw/{path.name}"), paths))
    found = find_exposures(f"{bucket}/raw", memo=f"{bucket}/cache/checksums")
    assert (len(found.exposures), found.refused) == (1000, ())
    checksums._HASHED.clear()  # another process
    storage_memo._MEMOS.clear()
    before = store.requests_sent()
    assert find_exposures(f"{bucket}/raw", memo=f"{bucket}/cache/checksums") == found
    assert store.requests_sent() - before < 20
    put(tmp_path, 7, FILTER="F150W")
    store.publish(paths[6], f"{bucket}/raw/{paths[6].name}")
    now = find_exposures(f"{bucket}/raw", memo=f"{bucket}/cache/checksums").exposures
    assert [one.object for one in now if one.band == "F150W"] == [store.checksum(f"{bucket}/raw/{paths[6].name}")]


def test_an_object_is_fetched_once_by_all_who_want_it_at_once(network, bucket, file, tmp_path):
    stored = store.publish(file, f"{bucket}/frame.fits")
    network.forget()
    folders = [tmp_path / f"step{number}" for number in range(6)]
    for folder in folders:
        folder.mkdir()
    fetchers = [threading.Thread(target=store.fetch, args=(stored, each, tmp_path / "shared")) for each in folders]
    for fetcher in fetchers:
        fetcher.start()
    for fetcher in fetchers:
        fetcher.join()
    assert all((folder / "frame.fits").read_bytes() == file.read_bytes() for folder in folders)
    assert sum(method == "GET" for method, _ in network.seen) == 1


def test_fetched_objects_are_kept_within_bounds(bucket, file, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "SHARED_BYTES", 2.5 * file.stat().st_size)
    for number in range(5):
        file.write_bytes(os.urandom(300_000))
        folder = tmp_path / str(number)
        folder.mkdir()
        store.fetch(store.publish(file, f"{bucket}/{number}.fits"), folder, tmp_path / "shared")
    assert sum(path.stat().st_size for path in (tmp_path / "shared").iterdir()) < 2.5 * 300_001


def test_checksum_of_a_raw_object_is_read_once_for_all_runs(network, bucket, file):
    s3fs.S3FileSystem().put_file(str(file), f"{bucket}/raw/frame.fits")
    memo = f"{bucket}/cache/checksums"
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert store.checksum(f"{bucket}/raw/frame.fits", memo).sha256 == expected
    checksums._HASHED.clear()  # another process
    storage_memo._MEMOS.clear()
    network.forget()
    assert store.checksum(f"{bucket}/raw/frame.fits", memo).sha256 == expected
    assert network.bytes_down < 10_000
    s3fs.S3FileSystem().pipe(f"{bucket}/raw/frame.fits", b"replaced")
    replaced = hashlib.sha256(b"replaced").hexdigest()
    assert store.checksum(f"{bucket}/raw/frame.fits", memo).sha256 == replaced


def test_small_raw_exposures_are_described_and_hashed_with_one_request_each(network, bucket, tmp_path):
    paths = [put(tmp_path, number) for number in range(1, 9)]
    for path in paths:
        s3fs.S3FileSystem().put_file(str(path), f"{bucket}/raw/{path.name}")
    network.forget()
    exposures = find_exposures(f"{bucket}/raw", memo=f"{bucket}/cache").exposures
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [exposure.object.sha256 for exposure in exposures] == expected
    raw = [method for method, path in network.seen if "_uncal.fits" in path]
    assert raw == ["GET"] * len(paths)


def test_the_checksum_that_is_kept_beside_a_large_exposure_comes_with_its_header(network, bucket, large_frame):
    stored = store.publish(large_frame, f"{bucket}/raw/{large_frame.name}")
    (listed,) = store.list_objects(f"{bucket}/raw")
    with store.opened(listed) as stream:
        read_header(stream)
    network.forget()
    described = StoredObject(uri=listed.uri, sha256="", size=listed.size, version=listed.version)
    assert store.checksum_of(described, f"{bucket}/cache").sha256 == stored.sha256
    assert not any(large_frame.name in path for _, path in network.seen)


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_an_object_that_is_rewritten_after_it_was_listed_is_told(bucket, size):
    uri = f"{bucket}/raw/frame.fits"
    s3fs.S3FileSystem().pipe(uri, b"a" * size)
    (listed,) = store.list_objects(f"{bucket}/raw")
    s3fs.S3FileSystem().pipe(uri, b"b" * size)
    described = StoredObject(uri=uri, sha256="", size=size, version=listed.version)
    with pytest.raises(store.AlteredObjectError, match=r"frame\.fits was rewritten"):
        store.checksum_of(described, f"{bucket}/cache")
    with pytest.raises(store.AlteredObjectError, match=r"frame\.fits was rewritten"), store.opened(listed) as stream:
        stream.read(100)


@pytest.mark.parametrize("is_rewritten", [True, False])
def test_an_exposure_of_another_version_than_was_listed_is_described_as_it_is_now(
    bucket, tmp_path, monkeypatch, is_rewritten
):
    """It was rewritten, or its store lists other versions than it answers with, as some gateways do."""

    def listed_before(prefix, pattern="*"):
        listed = list(list_objects(prefix, pattern))
        if is_rewritten:
            put(tmp_path, 1, EFFEXPTM=77.5)
            store.publish(path, uri)
            return iter(listed)
        return iter(one.model_copy(update={"version": f"W/{one.version}"}) for one in listed)

    path, list_objects = put(tmp_path, 1), search.list_objects
    uri = f"{bucket}/raw/{path.name}"
    store.publish(path, uri)
    monkeypatch.setattr(search, "list_objects", listed_before)
    for _ in range(2):
        (found,) = find_exposures(f"{bucket}/raw", memo=f"{bucket}/cache").exposures
        assert found.exposure_time == (77.5 if is_rewritten else 311.4)
        assert found.object.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert store.is_intact(found.object)


def test_an_object_that_is_rewritten_while_it_is_read_is_told(bucket):
    s3fs.S3FileSystem().pipe(f"{bucket}/frame.fits", b"a" * 3_000_000)
    (listed,) = store.list_objects(bucket)
    with store.opened(listed) as stream:
        assert stream.read(10) == b"a" * 10
        s3fs.S3FileSystem().pipe(listed.uri, b"b" * 3_000_000)
        stream.seek(2_000_000)
        with pytest.raises(store.AlteredObjectError):
            stream.read(10)


def test_headers_whose_body_is_cut_are_asked_for_again(network, bucket, tmp_path):
    for number in range(1, 9):
        path = put(tmp_path, number)
        store.publish(path, f"{bucket}/raw/{path.name}")
    network.fault_rate, network.seed, network.kinds = 0.5, 1, ("cut",)
    assert len(find_exposures(f"{bucket}/raw", memo=f"{bucket}/cache").exposures) == 8
    assert network.faults["cut"] > 3


def test_a_mirror_fetches_what_changed_alone(network, bucket, file, tmp_path):
    for name in ("config/a", "references/b"):
        store.publish(file, f"{bucket}/crds/{name}")
    store.mirror(f"{bucket}/crds", tmp_path / "crds")
    assert (tmp_path / "crds/references/b").read_bytes() == file.read_bytes()
    file.write_bytes(b"new")
    store.publish(file, f"{bucket}/crds/config/a")
    network.forget()
    store.mirror(f"{bucket}/crds", tmp_path / "crds")
    assert (tmp_path / "crds/config/a").read_bytes() == b"new"
    assert not any("references/b" in path for _, path in network.seen)


@pytest.mark.parametrize(
    ("variable", "value", "error", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", PermissionError, "refuses access.*AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "survey:nobody", PermissionError, "refuses access.*AWS_ACCESS_KEY_ID"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", ConnectionError, "does not answer.*AWS_ENDPOINT_URL"),
    ],
)
def test_wrong_access_is_told_at_once(s3, bucket, monkeypatch, variable, value, error, words):
    monkeypatch.setenv(variable, value)
    forget_stores()
    start = time.monotonic()
    with pytest.raises(error, match=words) as raised:
        store.check_access(f"{bucket}/demo")
    assert time.monotonic() - start < 10
    assert s3.secret_key not in str(raised.value)


def test_missing_bucket_is_told(s3):
    with pytest.raises(FileNotFoundError, match="s3://no-such-bucket"):
        store.check_access("s3://no-such-bucket/demo")


def test_what_is_refused_is_not_tried_again(network, bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    forget_stores()
    network.forget()
    with pytest.raises(PermissionError):
        store.read_bytes(f"{bucket}/x")
    assert network.requests == 1


def test_every_promise_holds_on_a_bad_network(network, bucket, tmp_path):
    network.fault_rate, network.seed = 0.2, 1
    for number in range(25):
        path = tmp_path / f"{number}.fits"
        path.write_bytes(os.urandom(100_000))
        stored = store.publish(path, f"{bucket}/raw/{number}.fits")
        (tmp_path / f"back{number}").mkdir()
        assert store.fetch(stored, tmp_path / f"back{number}").read_bytes() == path.read_bytes()
        assert store.is_intact(stored)
    assert len(list(store.list_objects(f"{bucket}/raw"))) == 25
    assert all(network.faults[fault] for fault in ("500", "503", "slow", "cut"))


def test_a_large_object_whose_body_is_cut_is_asked_for_again(network, bucket, tmp_path):
    large = tmp_path / "large.npy"
    large.write_bytes(bytes(120_000_000))
    stored = store.publish(large, store.join(bucket, large.name))
    (tmp_path / "back").mkdir()
    # Half of all bodies are cut in the middle.
    network.fault_rate, network.seed, network.kinds = 0.5, 1, ("cut",)
    assert store.fetch(stored, tmp_path / "back").stat().st_size == 120_000_000
    assert network.faults["cut"] > 0


def test_a_public_bucket_is_read_without_keys(s3, bucket, file, monkeypatch, tmp_path):
    stored = store.publish(file, f"{bucket}/public.fits")
    with between(s3.port, sign=signer(s3)) as network:
        for name in s3.environment:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        forget_stores()
        assert store.fetch(stored, tmp_path).read_bytes() == file.read_bytes()
        assert [found.name for found in store.list_objects(bucket)] == ["public.fits"]
        assert network.requests == network.unsigned > 0


def test_jwst_public_archive_is_read_without_keys_wherever_the_rest_is(s3, monkeypatch):
    assert remote.options("s3://stpubdata/jwst/public/jw01727/x.fits")["anon"]
    assert "amazonaws.com" in remote.options("s3://stpubdata/jwst/public/jw01727/x.fits")["endpoint_url"]
    assert not remote.options("s3://my-survey/raw")["anon"]


@pytest.mark.parametrize(
    "name", ["..", "a b", "it's", 'say "x"', "two\nlines", "ünïcode", "a::file:", "%2e%2e", "#?&+"]
)
def test_strange_names_are_listed_read_and_stay_in_the_folder(bucket, tmp_path, name):
    content = b"inside"
    s3fs.S3FileSystem().call_s3("put_object", Bucket=bucket[5:], Key=f"raw/{name}/x_uncal.fits", Body=content)
    (found,) = store.list_objects(f"{bucket}/raw")
    stored = store.checksum(found.uri)
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    fetched = store.fetch(stored, tmp_path)
    assert fetched == tmp_path / "x_uncal.fits"
    assert fetched.read_bytes() == content


@pytest.mark.parametrize("name", ["..", ".", "two\nlines", "x" * 300])
def test_names_that_cannot_be_files_are_refused(tmp_path, name):
    stored = StoredObject(uri=f"s3://bucket/raw/{name}", sha256="0" * 64, size=1)
    with pytest.raises(ValueError, match="cannot be a file name"):
        store.fetch(stored, tmp_path)
    assert list(tmp_path.iterdir()) == []


def signer(server):
    """Sign requests as the owner of the bucket."""
    credentials = botocore.session.Session().create_client(
        "s3", aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key, region_name="us-east-1"
    )._request_signer._credentials  # fmt: skip

    def sign(method, path, headers):
        request = AWSRequest(method, f"{server.endpoint}{path}", headers={})
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
        kept = {name: value for name, value in headers.items() if name.lower() in ("range",)}
        return {**dict(request.headers.items()), **kept}

    return sign


def test_every_request_is_counted_repeated_ones_too(network, bucket, file, tmp_path):
    before, seen = store.requests_sent(), network.requests
    network.fault_rate, network.seed = 0.3, 5
    for number in range(8):
        stored = store.publish(file, f"{bucket}/{number}.fits")
        assert store.fetch(stored, tmp_path).exists()
        assert store.is_intact(stored)
    assert len(list(store.list_objects(bucket))) == 8
    assert store.requests_sent() - before == network.requests - seen > 25
