"""The files that steps take and make: each is of a declared kind, and is stored already or promised by a step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

from cosmosaic.records import StoredObject


class Promise(NamedTuple):
    """An output of a submitted step."""

    node: Any
    """The submitted step, as the `Job` represents it."""
    output: str
    """Name of the output."""
    name: str | None = None
    """Name of the file, if the output has many."""
    is_required: bool = True
    """Whether the step that takes it fails if the file was not made; otherwise it gets None."""


@dataclass(frozen=True)
class File:
    """A file of one kind.

    A kind is a subclass: ``class Cal(File, suffix="_cal.fits", kind="cal", folder="exposures")``.
    """

    source: StoredObject | Promise

    suffix: ClassVar[str] = ""
    """Ending of the names of such files."""
    kind: ClassVar[str] = ""
    """Name of the kind in the run table and on the pages; empty for files that are not published."""
    folder: ClassVar[str] = ""
    """Folder in which such files are published, relative to the products."""
    parents: ClassVar[int] = 0
    """Folders around the file, as its step made them, that are published with it."""

    def __init_subclass__(cls, *, suffix: str = "", kind: str = "", folder: str = "", parents: int = 0) -> None:
        cls.suffix, cls.kind, cls.folder, cls.parents = suffix, kind, folder, parents

    @property
    def stored(self) -> StoredObject:
        """The stored object.

        Raises
        ------
        ValueError
            The file has not been made yet.
        """
        if isinstance(self.source, Promise):
            raise ValueError(f"{self.source.output} has not been made yet")
        return self.source


Kind = TypeVar("Kind", bound=File)


@dataclass(frozen=True)
class Many(Generic[Kind]):
    """Files of one kind that a step makes, by their names."""

    kind: type[Kind]
    source: Mapping[str, StoredObject] | Promise

    def __getitem__(self, name: str) -> Kind:
        """Return one of them; the step that takes it fails if it was not made."""
        return self.kind(self.source[name] if isinstance(self.source, Mapping) else self.source._replace(name=name))

    def get(self, name: str) -> Kind | None:
        """Return one of them; the step that takes it gets None if it was not made."""
        if isinstance(self.source, Mapping):
            return self[name] if name in self.source else None
        return self.kind(self.source._replace(name=name, is_required=False))

    def __iter__(self) -> Iterator[Kind]:
        """Iterate over the files.

        Raises
        ------
        ValueError
            They have not been made yet.
        """
        if isinstance(self.source, Promise):
            raise ValueError(f"{self.source.output} have not been made yet")
        return iter([self.kind(stored) for stored in self.source.values()])


def promises_of(value: Any) -> Iterator[Promise]:
    """Yield the promises within an input: a file, files of one output, or a tuple or mapping of them."""
    if isinstance(value, File | Many):
        if isinstance(value.source, Promise):
            yield value.source
    elif isinstance(value, tuple):
        for item in value:
            yield from promises_of(item)
    elif isinstance(value, Mapping):
        yield from promises_of(tuple(value.values()))


def is_input(value: Any) -> bool:
    """Return whether a step's field holds files."""
    if isinstance(value, tuple):
        return bool(value) and is_input(value[0])
    if isinstance(value, Mapping):
        return is_input(tuple(value.values()))
    return isinstance(value, File | Many)


def stored_in(value: Any) -> tuple[StoredObject, ...]:
    """Return the stored objects of an input, in order."""
    if isinstance(value, File):
        return (value.stored,)
    if isinstance(value, Many):
        return tuple(file.stored for file in value)
    items = value.values() if isinstance(value, Mapping) else value
    return tuple(stored for item in items for stored in stored_in(item))


def files_in(value: Any) -> tuple[File, ...]:
    """Return the files of an input, in order."""
    if isinstance(value, File):
        return (value,)
    items = value.values() if isinstance(value, Mapping) else value
    return tuple(file for item in cast(Any, items) for file in files_in(item))
