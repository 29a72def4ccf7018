"""Names of objects: URIs, file names, and listings."""

import re
from pathlib import Path

from cosmosaic.records import Record

LONGEST_NAME = 128
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
URL = re.compile(r"[a-z][a-z0-9+.-]*://")


class ListedObject(Record):
    """An object as its store lists it."""

    uri: str
    size: int
    version: str
    """Changes when the object is written again: times of modification or ETag."""
    sha256: str = ""
    """The checksum kept beside the object, on S3; empty if there is none or it was not requested."""

    @property
    def name(self) -> str:
        """The object's file name."""
        return self.uri.rsplit("/", 1)[-1]


class AlteredObjectError(OSError):
    """An object's bytes differ from the recorded ones."""


def absolute_uri(uri: str) -> str:
    """Return the one spelling of a URI: an absolute path for local files, the URL otherwise."""
    if is_remote(uri):
        return uri.rstrip("/")
    return str(Path(uri.removeprefix("file://")).expanduser().absolute())


def join(uri: str, *parts: str) -> str:
    """Append path components to a URI."""
    return "/".join([uri.rstrip("/"), *parts])


def is_remote(uri: str) -> bool:
    """Return whether a URI names an object on a remote store."""
    return URL.match(uri) is not None and not uri.startswith("file://")


def is_plain_name(name: str) -> bool:
    """Return whether a file name is safe in headers, tables, folders and messages."""
    return len(name) <= LONGEST_NAME and PLAIN_NAME.fullmatch(name) is not None


def file_name(name: str) -> str:
    """Return an object's name, checked to be a valid name of a local file.

    Raises
    ------
    ValueError
        It is not valid.
    """
    if name in ("", ".", "..") or len(name.encode()) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"the name {name[:LONGEST_NAME]!r} of an object cannot be a file name; rename the object")
    return name
