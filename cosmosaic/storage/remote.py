"""Objects on a remote store: mainly S3, or any other store that fsspec supports.

Credentials come from the environment or the AWS configuration (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, an instance's
role, ...), the address from ``AWS_ENDPOINT_URL``. Without credentials, requests are not signed, which is how public
buckets are read. Transient failures (time-outs, 5xx, throttling, truncated bodies) are retried after growing, random
pauses; others (403, 404) fail at once.
"""

import hashlib
import io
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import sync
from s3fs.core import S3_RETRYABLE_ERRORS

from cosmosaic.storage.names import AlteredObjectError
from cosmosaic.storage.refusals import code_of, told

PUBLIC_BUCKETS = {"stpubdata": "https://s3.us-east-1.amazonaws.com"}
"""Public buckets and their addresses: read without keys, wherever the other data are."""

SHA256_METADATA_KEY = "sha256"
HEADER_BLOCK_BYTES = 1 << 16
WHOLE_BYTES = 1 << 20
"""Smaller objects are fetched whole: their headers and their checksum cost one request."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 5, 30, 8
FAILED_PRECONDITION = {"PreconditionFailed", "412", "ConditionNotMet", "ConditionalRequestConflict"}
"""Codes of a conditional request that failed, as stores answer it."""
PAUSE_S = 0.1
"""Mean pause before a body that was cut is asked for again; it doubles each time."""
CHECK_TIMEOUT_S, CHECK_ATTEMPTS = 3, 2
LISTED_AT_ONCE = 1000
LARGEST_UPLOAD_BYTES = 100 * 1024**2
"""Objects from this size on are uploaded in parts."""
LARGEST_COPY_BYTES = 5 * 1024**3
"""Largest object that S3 can copy in one request."""


class ObjectExistsError(FileExistsError):
    """An object that should be new exists already."""


class RemoteObject(NamedTuple):
    """An object as its store describes it."""

    key: str
    """The object's path within its store, bucket included."""
    size: int
    version: str
    sha256: str
    """The checksum kept beside the object; empty if there is none or it was not requested."""
    modified: float = inf
    """When it was last written, seconds since the epoch, if the store's listing includes it."""


def options(uri: str) -> dict[str, Any]:
    """Return fsspec's options for a store; nothing secret, because keys come from the environment."""
    if not uri.startswith("s3://"):
        return {}
    bucket = uri.removeprefix("s3://").split("/", 1)[0]
    retries = {"mode": "standard", "max_attempts": ATTEMPTS}
    timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
    common = {"config_kwargs": {**timeouts, "retries": retries}, "use_listings_cache": False}
    if bucket in PUBLIC_BUCKETS:
        return {**common, "anon": True, "endpoint_url": PUBLIC_BUCKETS[bucket]}
    return {**common, "anon": not _has_credentials()}


def check_access(uri: str) -> None:
    """Check access to a store with one request and short time-outs.

    Raises
    ------
    PermissionError
        The store refuses the keys.
    FileNotFoundError
        There is no such bucket.
    ConnectionError
        The store does not answer.
    """
    given = options(uri)
    if not given:
        return
    patience = {
        "connect_timeout": CHECK_TIMEOUT_S,
        "read_timeout": CHECK_TIMEOUT_S,
        "retries": {"mode": "standard", "max_attempts": CHECK_ATTEMPTS},
    }
    filesystem = fsspec.filesystem("s3", **{**given, "config_kwargs": patience})
    filesystem.retries = 1
    bucket = filesystem.split_path(uri)[0]
    with told(f"s3://{bucket}"):
        filesystem.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)


def head(uri: str) -> RemoteObject | None:
    """Describe one object with one request; None if it does not exist."""
    filesystem, path = _locate(uri)
    try:
        with told(uri):
            return _head_s3(filesystem, path) if _is_s3(filesystem) else _described(filesystem.info(path))
    except FileNotFoundError:
        return None


def iterate(prefix: str) -> Iterator[RemoteObject]:
    """List the objects under a prefix at any depth, in the order of their keys, a page at a time."""
    filesystem, root = _locate(prefix)
    if not _is_s3(filesystem):
        yield from (_described(info) for _, info in sorted(filesystem.find(root, detail=True).items()))
        return
    bucket, key, _ = filesystem.split_path(root)
    request = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else "", "MaxKeys": LISTED_AT_ONCE}
    while True:
        with told(prefix):
            page = filesystem.call_s3("list_objects_v2", **request)
        for entry in page.get("Contents", []):
            if not entry["Key"].endswith("/"):
                modified = entry["LastModified"].timestamp()
                yield RemoteObject(f"{bucket}/{entry['Key']}", entry["Size"], _version(entry), "", modified)
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


class RangeReader(io.RawIOBase):
    """Random access to an object of known size: each block that is touched is fetched with one request.

    An object of less than `WHOLE_BYTES` is one block.

    Parameters
    ----------
    uri, size
        The object.
    version
        If it is given, no other version is read.
    block_bytes
        Size of the blocks.

    Attributes
    ----------
    sha256 : str
        The checksum, if the store keeps it beside the object or the object is one block, once a block was fetched.
    """

    def __init__(self, uri: str, size: int, version: str = "", block_bytes: int = HEADER_BLOCK_BYTES) -> None:
        self._uri, self._size, self._version = uri, size, version
        self._block_bytes = max(block_bytes, WHOLE_BYTES) if size < WHOLE_BYTES else block_bytes
        self._position, self._start, self._block = 0, 0, b""
        self.sha256 = ""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can seek."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte; nothing is fetched."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer up to the end of the block that holds the next byte."""
        if self._position >= self._size:
            return 0
        if not self._start <= self._position < self._start + len(self._block):
            self._fetch_block()
        begin = self._position - self._start
        found = self._block[begin : begin + len(buffer)]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _fetch_block(self) -> None:
        start = 0 if self._size < WHOLE_BYTES else self._position
        end = min(start + self._block_bytes, self._size)
        self._block, self.sha256 = _get(self._uri, start, end, self._version)
        self._start = start
        if len(self._block) < end - start:
            raise AlteredObjectError(f"{self._uri} is shorter than its store reported: it was rewritten")
        if len(self._block) > end - start:
            raise ConnectionError(f"the store of {self._uri} answers a request for a range with more than the range")
        if len(self._block) == self._size:
            self.sha256 = hashlib.sha256(self._block).hexdigest()


def open_stream(reader: RangeReader) -> BinaryIO:
    """Open an object for reading; seeking moves only the blocks that are read."""
    return cast(BinaryIO, io.BufferedReader(reader))


def _get(uri: str, start: int, end: int, version: str) -> tuple[bytes, str]:
    """Fetch some bytes of a version of an object, and the checksum that is kept beside it, with one request."""
    filesystem, path = _locate(uri)
    if not _is_s3(filesystem):
        with told(uri):
            return filesystem.cat_file(path, start=start, end=end), ""
    bucket, key, _ = filesystem.split_path(path)
    request = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{end - 1}"}
    content, answer = _get_version(filesystem, request, version, uri)
    if version and _version(answer) != version:
        # Some stores ignore the condition, some answer with other ETags than they list: HEAD decides, as for listings.
        current = head(uri)
        if current is None or current.version != version:
            raise AlteredObjectError(f"{uri} was rewritten after it had been listed")
        if not answer:
            content, answer = _get_version(filesystem, request, "", uri)
    return content, _kept_sha256(answer)


def _get_version(
    filesystem: AbstractFileSystem, request: dict[str, Any], version: str, uri: str
) -> tuple[bytes, dict[str, Any]]:
    """Return content and answer, both empty if the store has no such version; any version if it is empty."""
    condition = {"IfMatch": f'"{version}"'} if version else {}
    try:
        with told(uri):
            return _get_s3(filesystem, {**request, **condition})
    except OSError as error:
        if version and _is_failed_precondition(error):
            return b"", {}
        raise


def _get_s3(filesystem: AbstractFileSystem, request: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    # Not s3fs's cat_file: it does not return the answer, which has version and metadata.
    async def get() -> tuple[bytes, dict[str, Any]]:
        answer = await filesystem._call_s3("get_object", **request)
        try:
            return await answer["Body"].read(), answer
        finally:
            answer["Body"].close()

    for attempt in range(ATTEMPTS - 1):
        try:
            return sync(filesystem.loop, get)
        except S3_RETRYABLE_ERRORS:  # the body was cut
            time.sleep(random.uniform(0.5, 1.5) * PAUSE_S * 2.0**attempt)
    return sync(filesystem.loop, get)


def read(uri: str) -> bytes:
    """Read an object whole."""
    filesystem, path = _locate(uri)
    # s3fs asks for the size first, to fetch large objects in concurrent parts.
    details = {"max_concurrency": 1} if _is_s3(filesystem) else {}
    with told(uri):
        return filesystem.cat_file(path, **details)


def download(uri: str, path: Path) -> None:
    """Copy an object to a local file."""
    filesystem, remote_path = _locate(uri)
    # s3fs fetches objects above 50 MB in concurrent parts and does not retry a truncated part.
    details = {"max_concurrency": 1} if _is_s3(filesystem) else {}
    with told(uri):
        filesystem.get_file(remote_path, str(path), **details)


def upload(path: Path, uri: str, sha256: str, *, new: bool = False) -> str:
    """Copy a local file to an object, in several parts if it is large; it becomes visible when it is complete.

    Returns
    -------
    version : str
        The object's version; empty if the store does not tell it.

    Raises
    ------
    ObjectExistsError
        It should be new and exists already.
    """
    filesystem, remote_path = _locate(uri)
    try:
        with told(uri):
            if _is_s3(filesystem) and path.stat().st_size < LARGEST_UPLOAD_BYTES:
                return _upload_at_once(filesystem, path, remote_path, sha256, new)
            details: dict[str, Any] = {"Metadata": {SHA256_METADATA_KEY: sha256}} if _is_s3(filesystem) else {}
            filesystem.put_file(str(path), remote_path, **details, **({"mode": "create"} if new else {}))
    except OSError as error:
        if new and _is_failed_precondition(error):
            raise ObjectExistsError(f"{uri} exists") from error
        raise
    return ""


def _upload_at_once(filesystem: AbstractFileSystem, path: Path, remote_path: str, sha256: str, new: bool) -> str:
    # Not s3fs's put_file: it does not return the answer, which has the version.
    bucket, key, _ = filesystem.split_path(remote_path)
    condition = {"IfNoneMatch": "*"} if new else {}
    metadata = {SHA256_METADATA_KEY: sha256}
    answer = filesystem.call_s3(
        "put_object", Bucket=bucket, Key=key, Body=path.read_bytes(), Metadata=metadata, **condition
    )
    return _version(answer)


def copy(source: str, target: str, size: int, version: str) -> str | None:
    """Copy an object within one S3 store without fetching its bytes.

    Parameters
    ----------
    source, target
        URIs.
    size, version
        Of the source; if the version is known, no other one is copied.

    Returns
    -------
    version : str or None
        The copy's version; None if the stores cannot do it.

    Raises
    ------
    AlteredObjectError
        The source has another version.
    """
    if not source.startswith("s3://") or not target.startswith("s3://") or size > LARGEST_COPY_BYTES:
        return None
    if options(source) != options(target):
        return None
    filesystem, path = _locate(source)
    bucket, key, _ = filesystem.split_path(target)
    source_bucket, source_key, _ = filesystem.split_path(path)
    place = {"Bucket": source_bucket, "Key": source_key}
    condition = {"CopySourceIfMatch": version} if version else {}
    try:
        with told(source):
            answer = filesystem.call_s3("copy_object", Bucket=bucket, Key=key, CopySource=place, **condition)
    except OSError as error:
        if version and _is_failed_precondition(error):
            raise AlteredObjectError(f"{source} was rewritten after its sha256 had been recorded") from error
        raise
    return _version(answer["CopyObjectResult"])


def remove(uri: str) -> None:
    """Remove an object."""
    filesystem, path = _locate(uri)
    with told(uri):
        filesystem.rm_file(path)


def abort_stale_uploads(prefix: str, age_s: float) -> list[str]:
    """Abort the multipart uploads under a prefix that began longer ago than an age; return their URIs.

    A process that is killed during an upload leaves parts that no listing shows and that cost money.
    """
    filesystem, root = _locate(prefix)
    if not _is_s3(filesystem):
        return []
    bucket, key, _ = filesystem.split_path(root)
    before = datetime.now(UTC) - timedelta(seconds=age_s)
    with told(prefix):
        stale = [
            upload
            for upload in _uploads(filesystem, bucket, f"{key.rstrip('/')}/" if key else "")
            if upload["Initiated"] <= before
        ]
        for upload in stale:
            with suppress(FileNotFoundError):  # ended meanwhile
                filesystem.call_s3(
                    "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
    return [f"s3://{bucket}/{upload['Key']}" for upload in stale]


def _uploads(filesystem: AbstractFileSystem, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    request = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = filesystem.call_s3("list_multipart_uploads", **request)
        yield from page.get("Uploads", [])
        if not page.get("IsTruncated"):
            return
        request |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _locate(uri: str) -> tuple[AbstractFileSystem, str]:
    # Not fsspec's own parser of URLs: it takes "::" in an object's name for a chain of file systems.
    protocol, path = uri.split("://", 1)
    filesystem = fsspec.filesystem(protocol, **options(uri))
    if _is_s3(filesystem) and not hasattr(filesystem, _COUNTED):
        with told(uri):
            _SENT.watch(filesystem)
    return filesystem, path


_COUNTED = "requests_are_counted"
"""Attribute of a file system. A set of them would take a new one for an old one with the same options."""


class _Sent:
    """Counts the requests that this process sends."""

    def __init__(self) -> None:
        self.requests = 0

    def watch(self, filesystem: AbstractFileSystem) -> None:
        filesystem.connect()
        # Once, though several threads may come here at the same time.
        filesystem.s3.meta.events.register("before-send.s3", self._count, unique_id=_COUNTED)
        setattr(filesystem, _COUNTED, True)

    def _count(self, **_: Any) -> None:
        self.requests += 1  # all are sent by one thread of fsspec's


_SENT = _Sent()


def requests_sent() -> int:
    """Return how many requests this process has sent to S3, repeated ones included."""
    return _SENT.requests


def _is_s3(filesystem: AbstractFileSystem) -> bool:
    return hasattr(filesystem, "call_s3")


def _head_s3(filesystem: AbstractFileSystem, path: str) -> RemoteObject:
    bucket, key, _ = filesystem.split_path(path)
    if not key:
        raise FileNotFoundError(path)
    answer = filesystem.call_s3("head_object", Bucket=bucket, Key=key)
    return RemoteObject(f"{bucket}/{key}", answer["ContentLength"], _version(answer), _kept_sha256(answer))


def _version(answer: dict[str, Any]) -> str:
    """The ETag in an answer or in an entry of a listing, weak or not; empty if there is none."""
    return str(answer.get("ETag", "")).removeprefix("W/").strip('"')


def _kept_sha256(answer: dict[str, Any]) -> str:
    """The checksum that is kept beside an object; empty if there is none, or one of another tool's making."""
    kept = str(answer.get("Metadata", {}).get(SHA256_METADATA_KEY, "")).lower()
    return kept if re.fullmatch("[0-9a-f]{64}", kept) else ""


def _described(info: dict[str, Any]) -> RemoteObject:
    if info["type"] != "file":
        raise FileNotFoundError(info["name"])
    version = info.get("ETag") or info.get("etag") or info.get("created") or info.get("mtime") or ""
    if isinstance(version, datetime):  # a listing may have seconds instead
        version = version.timestamp()
    return RemoteObject(info["name"], info["size"], str(version), "")


def _is_failed_precondition(error: OSError) -> bool:
    """Return whether a conditional request failed; s3fs raises several errors, by the server's text."""
    return isinstance(error, FileExistsError) or code_of(error) in FAILED_PRECONDITION


@lru_cache
def _has_credentials() -> bool:
    import botocore.session  # takes long, and local files do not need it

    return botocore.session.get_session().get_credentials() is not None
