"""The file that a judgement of all exposures of a filter is kept in, for its tiles and its tables."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from cosmosaic.cells.survey import CellSurvey
from cosmosaic.records import MosaicGrid
from cosmosaic.sky.methods import EmptySky
from cosmosaic.sky.pedestal import Level
from cosmosaic.verdict.metrics import Flags, Floats
from cosmosaic.verdict.verdict import Judge, Verdict

_VERDICT = TypeAdapter(Verdict)


class Judgement(NamedTuple):
    """Joint measurements of all exposures of a filter."""

    grid: MosaicGrid
    """The window of the arrays."""
    flags: dict[str, Flags]
    """Cells that hold sources, are too bright to cancel, and do not pass for empty: deep and shallow."""
    first_guess: dict[str, float]
    """Level of each exposure, MJy/sr."""
    subtracted: dict[str, float]
    """Level that is taken out of each, MJy/sr."""
    sky: Floats
    """The stack, in per cent of the rms of a pixel."""
    verdict: Verdict

    def judge_of(self, survey: CellSurvey) -> Judge:
        """Return the judge of some of the exposures, which lie in the same window."""
        flags, levels = self.flags, {name: Level(value, np.nan) for name, value in self.first_guess.items()}
        empty = EmptySky(flags["deep"], flags["shallow"], {}, {})
        return Judge(survey, flags["sources"], flags["cores"], levels, empty)


def write_judgement(judgement: Judgement, path: Path) -> Path:
    """Write a judgement."""
    facts = {
        "grid": judgement.grid.model_dump(),
        "first_guess": judgement.first_guess,
        "subtracted": judgement.subtracted,
        "verdict": _VERDICT.dump_python(judgement.verdict),
    }
    arrays: dict[str, Any] = {name: np.packbits(flags, axis=1) for name, flags in judgement.flags.items()}
    np.savez_compressed(path, facts=np.array(json.dumps(facts)), sky=judgement.sky, **arrays)
    return path


def read_judgement(path: Path) -> Judgement:
    """Read a judgement."""
    with np.load(path) as stored:
        facts = json.loads(str(stored["facts"]))
        grid = MosaicGrid.model_validate(facts["grid"])
        flags = {
            name: np.unpackbits(stored[name], axis=1, count=grid.shape[1]).astype(bool)
            for name in stored.files
            if name not in ("facts", "sky")
        }
        verdict = _VERDICT.validate_python(facts["verdict"])
        return Judgement(grid, flags, facts["first_guess"], facts["subtracted"], stored["sky"], verdict)
