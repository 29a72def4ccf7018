"""Object storage: list, read, fetch and publish, the same on a folder and on S3. The room's face.

Objects are named by URI: an absolute path on the local disk, or ``s3://bucket/key``. An object appears under its
name when it is whole. Its sha256 is recorded with its version, and on S3 kept beside it as metadata. A checksum counts
only for the bytes it was recorded for; an object that has none is read once and remembered in the cache.
"""

from cosmosaic.storage.checksums import all_intact, check_unaltered, checksum, checksum_of, is_intact, opened
from cosmosaic.storage.names import (
    LONGEST_NAME,
    AlteredObjectError,
    ListedObject,
    absolute_uri,
    is_plain_name,
    is_remote,
    join,
)
from cosmosaic.storage.objects import (
    check_access,
    clean,
    list_dated,
    list_objects,
    list_older,
    open_object,
    publish,
    publish_bytes,
    read_bytes,
    remove,
    stat,
)
from cosmosaic.storage.remote import requests_sent
from cosmosaic.storage.transfer import copy, fetch, mirror, publish_once

__all__ = [
    "LONGEST_NAME",
    "AlteredObjectError",
    "ListedObject",
    "absolute_uri",
    "all_intact",
    "check_access",
    "check_unaltered",
    "checksum",
    "checksum_of",
    "clean",
    "copy",
    "fetch",
    "is_intact",
    "is_plain_name",
    "is_remote",
    "join",
    "list_dated",
    "list_objects",
    "list_older",
    "mirror",
    "open_object",
    "opened",
    "publish",
    "publish_bytes",
    "publish_once",
    "read_bytes",
    "remove",
    "requests_sent",
    "stat",
]
