"""Steps: functions from files to files, declared beside their science with named inputs and outputs.

A declaration names the function by its module, which is imported only in the child process that runs it: the jwst
package takes seconds to import. Publication, run table, links and cache follow from the declarations.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import (
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from cosmosaic.records import Reference, StoredObject
from cosmosaic.steps.files import File, Many, Promise, is_input, promises_of, stored_in
from cosmosaic.steps.result import StepResult


class OutputField(NamedTuple):
    """One declared output."""

    kind: type[File]
    is_many: bool
    is_optional: bool


@dataclass(frozen=True)
class Outputs:
    """The outputs of a step: a field for each, of type ``Kind``, ``Kind | None`` or ``Many[Kind]``.

    A step that only checks its inputs declares none.
    """

    node: Any = dataclasses.field(default=None, kw_only=True, repr=False, compare=False)
    """The submitted step that makes them, as the `Job` represents it; None for those of a finished one."""

    @classmethod
    def fields(cls) -> dict[str, OutputField]:
        """Return the declared outputs by their names."""
        return _output_fields(cast(Any, cls))

    @classmethod
    def promised(cls, node: Any) -> Self:
        """Return the outputs of a submitted step."""
        promises = {name: Promise(node, name, None, not field.is_optional) for name, field in cls.fields().items()}
        return cls._made(promises, node)

    @classmethod
    def of(cls, result: StepResult) -> Self:
        """Return the outputs of a finished step."""
        return cls._made(result.files, None)

    @classmethod
    def _made(cls, sources: Mapping[str, Any], node: Any) -> Self:
        made: dict[str, File | Many | None] = {}
        for name, (kind, is_many, _) in cls.fields().items():
            source = sources[name]
            made[name] = None if source is None else Many(kind, source) if is_many else kind(source)
        return cls(**made, node=node)

    @property
    def published(self) -> tuple[File | Many, ...]:
        """The outputs whose kinds are published."""
        values = (getattr(self, name) for name, field in self.fields().items() if field.kind.kind)
        return tuple(value for value in values if value is not None)


def names_of(stem: str, *made: Outputs | None) -> dict[str, str]:
    """Return the names of the published outputs that share a stem, by their labels in a list of links.

    Those in folders of their own, such as parts of a data set, are left out.
    """
    files = [file for outputs in made if outputs for file in outputs.published]
    kinds = [file.kind if isinstance(file, Many) else type(file) for file in files]
    return {kind.suffix.lstrip("_."): f"{stem}{kind.suffix}" for kind in kinds if not kind.parents}


Made = TypeVar("Made", bound=Outputs, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Made]):
    """One unit of work.

    A subclass is a frozen dataclass ``class Name(Step[ItsOutputs])`` whose fields are its inputs (files, or tuples or
    mappings of files) and its parameters (settings models, records, strings and numbers). The function is called with
    all of them by name, with local paths in place of files, and with ``folder``, an empty folder to write to.
    """

    title: ClassVar[str]
    """Name in the UI and on the terminal."""
    version: ClassVar[int]
    """To be raised when the same inputs give different results."""
    function: ClassVar[str]
    """``module:function``."""
    per: ClassVar[str]
    """There is one such step per ``exposure``, ``tile``, ``mosaic``, ``filter`` or ``survey``."""
    written: ClassVar[float] = 2.5
    """Size of what it writes to the scratch disk, in units of its inputs; a calibrated exposure of six groups is 2.3
    times as large as its ramp."""
    columns: ClassVar[Mapping[str, str]] = {}
    """Columns of the run table by the facts that they show; the rows of the step's files show them."""
    outputs: ClassVar[type[Outputs]]

    references: tuple[Reference, ...] = ()
    """Calibration reference files that the result depends on; the function finds them with CRDS."""
    sources: tuple[File | Many, ...] = ()
    """Files from which the inputs were made, for the provenance in a product's header; not fetched."""
    target: str = ""
    """Prefix that the files go to under their paths relative to the step's folder; empty for the cache."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Step:
                (cls.outputs,) = get_args(base)

    @property
    def name(self) -> str:
        """Name of the step's function and of its folder in the cache."""
        return self.function.rpartition(":")[2]

    @property
    def inputs(self) -> dict[str, Any]:
        """The fields that hold files, by their names."""
        return {name: value for name, value in self._fields() if name != "sources" and is_input(value)}

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields that hold no files, by their names."""
        consulted = [field.name for field in dataclasses.fields(self) if field.metadata.get(CONSULTED)]
        return {
            name: value for name, value in self._fields() if name not in (*GENERAL, *consulted) and not is_input(value)
        }

    @property
    def needed_gb(self) -> float | None:
        """Memory that the step needs at its peak, if it is known; by default it gets a share."""
        return None

    @property
    def written_bytes(self) -> float:
        """Room that the step's outputs and intermediates need on the scratch disk; all its inputs are stored."""
        return self.written * sum(stored.size for stored in stored_in(tuple(self.inputs.values())))

    @property
    def promises(self) -> list[Promise]:
        """The promised files that the step requires."""
        return [
            promise for name, value in self._fields() if name not in self.surviving() for promise in promises_of(value)
        ]

    @property
    def welcome(self) -> list[Promise]:
        """The promised files that the step waits for, and leaves out if they fail."""
        return [promise for name in self.surviving() for promise in promises_of(getattr(self, name))]

    @classmethod
    def is_asked_for(cls, survey: Any) -> bool:
        """Return whether a survey's settings ask for such steps, to estimate their number for the progress bar."""
        return True

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Return the values of the step's columns of the run table, given its facts."""
        return {column: facts.get(fact) for fact, column in cls.columns.items()}

    @classmethod
    def surviving(cls) -> tuple[str, ...]:
        """Return the names of the inputs from which the files of failed steps are left out."""
        return tuple(field.name for field in dataclasses.fields(cls) if SURVIVING in field.metadata)

    @classmethod
    def needing_one(cls) -> tuple[str, ...]:
        """Return the names of those among them without which, if all their files failed, the step is skipped."""
        return tuple(field.name for field in dataclasses.fields(cls) if field.metadata.get(SURVIVING) == NEEDING_ONE)

    def settled(self, look_up: Callable[[Promise], StoredObject | Mapping[str, StoredObject] | None]) -> Self:
        """Return the step with stored files in place of promised ones.

        Parameters
        ----------
        look_up
            Returns a promised file; None if there is no such file.
        """
        changes = {
            name: _settled(value, look_up, name in self.surviving())
            for name, value in self._fields()
            if any(True for _ in promises_of(value))
        }
        return dataclasses.replace(self, **changes) if changes else self

    def prepared(self) -> Self:
        """Return the step with parameters adjusted to its stored inputs; called before the key is made."""
        return self

    def _fields(self) -> Iterator[tuple[str, Any]]:
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))


GENERAL = ("references", "sources", "target")
"""Fields of every step that are not passed to its function."""
SURVIVING, CONSULTED = "surviving", "consulted"
NEEDING_ONE, NEEDING_NONE = "needing one", "needing none"


def surviving() -> Any:
    """Declare an input from which the files of failed steps are left out; the step is skipped if all failed."""
    return dataclasses.field(metadata={SURVIVING: NEEDING_ONE})


def if_made() -> Any:
    """Declare an input from which the files of failed steps are left out; the step runs if all failed, too.

    A single file that failed is None.
    """
    return dataclasses.field(metadata={SURVIVING: NEEDING_NONE})


def consulted() -> Any:
    """Declare a field that only the step itself uses: it is neither passed to the function nor part of the key."""
    return dataclasses.field(metadata={CONSULTED: True})


class Job(Protocol):
    """The rooms' view of a run: the survey's settings, the prefixes of its files, and the submission of steps."""

    @property
    def survey(self) -> Any:
        """The survey's settings."""

    @property
    def products(self) -> str:
        """Prefix of the products."""

    @property
    def checksums(self) -> str:
        """Prefix under which checksums of raw objects are remembered."""

    def submit(self, step: Step[Made], label: str) -> Made:
        """Submit a step; return its outputs, as inputs for other steps."""

    def note(self, text: str) -> None:
        """Show the user a message."""


class MissingFileError(RuntimeError):
    """A step requires a file that an earlier step did not make."""


def _settled(value: Any, look_up: Callable[[Promise], Any], leaves_out: bool) -> Any:
    if isinstance(value, Many):
        return Many(value.kind, look_up(value.source)) if isinstance(value.source, Promise) else value
    if isinstance(value, File):
        return _settled_file(value, look_up, leaves_out)
    if isinstance(value, tuple):
        return tuple(item for item in (_settled(item, look_up, leaves_out) for item in value) if item is not None)
    settled = {name: _settled(item, look_up, leaves_out) for name, item in value.items()}
    return {name: item for name, item in settled.items() if item is not None}


def _settled_file(file: File, look_up: Callable[[Promise], Any], leaves_out: bool) -> File | None:
    if not isinstance(file.source, Promise):
        return file
    found = look_up(file.source)
    if found is not None:
        return type(file)(found)
    if file.source.is_required and not leaves_out:
        raise MissingFileError(f"there is no {file.source.output} of {file.source.name or 'the step before'}")
    return None


@cache
def _output_fields(cls: Any) -> dict[str, OutputField]:
    return {name: _output_field(hint) for name, hint in get_type_hints(cls).items() if name != "node"}


def _output_field(hint: Any) -> OutputField:
    if get_origin(hint) is Many:
        return OutputField(get_args(hint)[0], True, False)
    kinds = [argument for argument in get_args(hint) if argument is not NoneType]
    return OutputField(kinds[0], False, True) if kinds else OutputField(hint, False, False)
