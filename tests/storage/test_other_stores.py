"""Stores that speak S3 with an accent: other words for a failed condition, weak or other ETags, no ranges."""

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from support.exposure_files import exposure_bytes, put
from support.s3_server import forget_stores

from cosmosaic.exposures.search import find_exposures
from cosmosaic.records import StoredObject
from cosmosaic.storage import store
from cosmosaic.storage.names import ListedObject

NAME = "jw01727001001_02101_00001_nrcb1_uncal.fits"
URI = f"s3://survey/raw/{NAME}"
CONDITION = (
    "<?xml version='1.0'?><Error><Code>{code}</Code><Message>At least one of the pre-conditions you specified did not "
    "hold</Message><Condition>If-Match</Condition></Error>"
)
LISTING = """<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>raw/{name}</Key>
<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag><Size>{size}</Size></Contents></ListBucketResult>"""


@dataclass
class Accent:
    """How the store answers; ``{}`` in its ETags is the digest of the content."""

    content: bytes = b""
    listed: str = '"{}"'
    got: str = '"{}"'
    """ETag of HEAD is that of the listing."""
    enforces: bool = True
    """It refuses a request whose If-Match is not the ETag that it would answer with."""
    code: str = "PreconditionFailed"
    ranges: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    """Methods of the requests for the object."""

    def etag(self, kind: str) -> str:
        return getattr(self, kind).format(hashlib.md5(self.content).hexdigest())


class Server(ThreadingHTTPServer):
    """Listens on a free port."""

    def __init__(self, accent: Accent) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.accent = accent


class Handler(BaseHTTPRequestHandler):
    """Lists the exposure, describes it or gives its bytes."""

    server: Server

    def do_GET(self) -> None:
        accent = self.server.accent
        if "list-type=2" in self.path:
            etag = accent.etag("listed").replace('"', "&quot;")
            self.give(200, LISTING.format(name=NAME, etag=etag, size=len(accent.content)).encode(), {})
            return
        accent.seen.append("GET")
        etag, wanted = accent.etag("got"), self.headers.get("If-Match")
        if accent.enforces and wanted not in (None, etag):
            self.give(412, CONDITION.format(code=accent.code).encode(), {})
            return
        body, status = accent.content, 200
        if accent.ranges and self.headers.get("Range"):
            first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
            body, status = body[first : last + 1], 206
        self.give(status, body, {"ETag": etag} | accent.metadata)

    def do_HEAD(self) -> None:
        accent = self.server.accent
        accent.seen.append("HEAD")
        self.give(200, accent.content, {"ETag": accent.etag("listed")} | accent.metadata)

    def give(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def accent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accent]:
    """A store with one small exposure."""
    server = Server(Accent(exposure_bytes()))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "somebody")
    for name in ("AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    forget_stores()
    yield server.accent
    server.shutdown()
    forget_stores()


def listed_now() -> ListedObject:
    (listed,) = store.list_objects("s3://survey/raw")
    return listed


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"listed": 'W/"{}"', "got": 'W/"{}"'}, {"got": 'W/"{}"'}, {"got": '"{}-1"'},
        {"got": '"{}-1"', "enforces": False}, {"got": "{}", "enforces": False}, {"got": "", "enforces": False},
    ],
    ids=str,
)  # fmt: skip
def test_an_exposure_is_used_whatever_etags_the_store_gives(accent: Accent, tmp_path: Path, changes: dict) -> None:
    for name, value in changes.items():
        setattr(accent, name, value)
    found = find_exposures("s3://survey/raw", memo=str(tmp_path / "memo"))
    assert found.refused == ()
    assert [one.object.sha256 for one in found.exposures] == [hashlib.sha256(accent.content).hexdigest()]
    assert len(accent.seen) == 1 if not changes else len(accent.seen) <= 3


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionNotMet", "412"])
@pytest.mark.parametrize("enforces", [True, False])
def test_an_object_that_was_rewritten_is_told_in_the_words_of_any_store(
    accent: Accent, code: str, enforces: bool
) -> None:
    accent.code, accent.enforces = code, enforces
    listed = listed_now()
    accent.content = exposure_bytes(EFFEXPTM=77.5)
    with store.opened(listed) as stream, pytest.raises(store.AlteredObjectError, match=f"{NAME} was rewritten"):
        stream.read()


def test_ranges_that_a_store_ignores_are_an_error_of_the_store(accent: Accent) -> None:
    accent.ranges, accent.content = False, bytes(3_000_000)
    with store.opened(listed_now()) as stream, pytest.raises(ConnectionError, match="more than the range"):
        stream.read(10)


@pytest.mark.parametrize("kept", ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "f" * 64])
def test_bytes_that_are_read_count_more_than_a_checksum_beside_them(accent: Accent, tmp_path: Path, kept: str) -> None:
    accent.metadata = {"x-amz-meta-sha256": kept}
    (found,) = find_exposures("s3://survey/raw", memo=str(tmp_path / "memo")).exposures
    assert found.object.sha256 == hashlib.sha256(accent.content).hexdigest()


def test_what_is_no_sha256_beside_a_large_object_is_none(accent: Accent, tmp_path: Path) -> None:
    accent.metadata, accent.content = {"x-amz-meta-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRk="}, bytes(3_000_000)
    listed = listed_now()
    described = StoredObject(uri=URI, sha256="", size=listed.size, version=listed.version)
    assert store.checksum_of(described, str(tmp_path / "memo")).sha256 == hashlib.sha256(accent.content).hexdigest()


@pytest.mark.parametrize("size", [0, 2_000_000])
def test_a_store_that_is_not_s3_lists_what_it_gives(tmp_path: Path, size: int) -> None:
    """Exposures in the memory of a process, small and large."""
    memory = fsspec.filesystem("memory")
    path = put(tmp_path, 1)
    content = path.read_bytes() + np.zeros(size, np.uint8).tobytes()
    memory.pipe(f"/raw{size}/{path.name}", content)
    (listed,) = store.list_objects(f"memory://raw{size}")
    described = StoredObject(uri=listed.uri, sha256="", size=listed.size, version=listed.version)
    assert store.checksum_of(described, str(tmp_path / "memo")).sha256 == hashlib.sha256(content).hexdigest()
