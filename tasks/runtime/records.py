"""Where Prefect keeps the records of finished steps."""

from asyncio import to_thread
from hashlib import sha256

from prefect.filesystems import LocalFileSystem, RemoteFileSystem

from cosmosaic.storage import remote, store
from tasks.runtime.caching import trusted


class StepRecords(RemoteFileSystem):
    """Records on a remote store, each read or written with one request.

    `RemoteFileSystem` sends two or three for either: it asks for the folders first. A record that is incomplete, or
    whose files are missing or altered, cannot be read: Prefect takes it for missing.
    """

    _block_type_name = "Records of cosmosaic's steps"
    _block_type_slug = "cosmosaic-records"

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]
        """Read a record.

        Raises
        ------
        FileNotFoundError
            There is none.
        ValueError
            It cannot be trusted.
        """
        content = store.read_bytes(self._resolve_path(path))
        if trusted(content) is None:
            raise ValueError(f"the record {path} is incomplete, or a file that it names is missing or altered")
        return content

    async def aread_path(self, path: str) -> bytes:
        """Read a record."""
        return await to_thread(self.read_path, path)

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> str:  # type: ignore[override]
        """Write a record."""
        return store.publish_bytes(content, self._resolve_path(path)).uri

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Write a record."""
        return await to_thread(self.write_path, path, content)


def result_storage(url: str) -> LocalFileSystem | StepRecords:
    """Return the saved Prefect block for the records of finished steps; it contains no credentials."""
    is_remote = store.is_remote(url)
    block = StepRecords(basepath=url, settings=remote.options(url)) if is_remote else LocalFileSystem(basepath=url)
    block.save(f"cosmosaic-{sha256(url.encode()).hexdigest()[:16]}", overwrite=True)
    return block
