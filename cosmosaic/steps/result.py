"""The result of a step: its files, and facts about them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from cosmosaic.records import Record, StoredObject


class Made:
    """The return value of a step's function: the path of each declared output in its folder, and facts.

    Parameters
    ----------
    facts
        Numbers by name, None for those not measured; all facts that the step's columns show must be named.
    files
        A path, a mapping of paths by name, or None for each output that the step declares.
    """

    def __init__(
        self, *, facts: Mapping[str, float | None] | None = None, **files: Path | Mapping[str, Path] | None
    ) -> None:
        self.facts: dict[str, float | None] = dict(facts or {})
        self.files: dict[str, Any] = files

    @property
    def known_facts(self) -> dict[str, float]:
        """The facts that could be measured."""
        return {name: value for name, value in self.facts.items() if value is not None}

    @property
    def paths(self) -> list[Path]:
        """All files."""
        every: list[Path] = []
        for made in self.files.values():
            every += made.values() if isinstance(made, Mapping) else [made] if made else []
        return every


class StepResult(Record):
    """The stored files of a step, and the cost of its execution."""

    step: str
    key: str
    files: dict[str, StoredObject | dict[str, StoredObject] | None]
    """By the declared outputs' names."""
    facts: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """What its function warned of, for the end of the run."""
    requests: int = 0
    """Requests to S3 that it took."""
    cpu_s: float
    wall_s: float
    peak_mb: float

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """All files, in order."""
        every: list[StoredObject] = []
        for made in self.files.values():
            every += made.values() if isinstance(made, dict) else [made] if made else []
        return tuple(every)
