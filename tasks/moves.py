"""Changes of sky levels and alignment since the previous run."""

from typing import Any

from cosmosaic.astrometry import solution as alignment
from cosmosaic.astrometry.flux_solution import flux_moves, read_fluxes
from cosmosaic.astrometry.steps import Aligned, SolvedAlignment, SolvedNetwork
from cosmosaic.sky import solution as sky
from cosmosaic.sky.steps import BandSky, MeasuredSky
from cosmosaic.storage import store
from tasks.runtime.run import Run, counted


def moves(band: str, aligned: Aligned, measured: BandSky, run: Run) -> dict[str, Any]:
    """Return columns of the run table, and report the moves to the user if all exposures were solved again."""
    return {
        "sky_moved_mjy_sr": _levels_moved(band, measured, run),
        "align_moved_mas": _exposures_moved(band, aligned, run),
        "flux_moved_mag": _fluxes_moved(band, aligned, run),
    }


def _levels_moved(band: str, measured: BandSky, run: Run) -> float | None:
    solved = run.results({"sky": measured.measured}) if measured.measured and measured.earlier else {}
    if not solved or not measured.earlier:
        return None
    table = MeasuredSky.of(solved["sky"]).table.stored
    moved = sky.moves(measured.earlier, sky.read_solution(store.read_bytes(table.uri).decode()))
    if run.survey.resolve:
        run.note(
            f"{band}: earlier sky levels of {counted(moved.exposures, 'exposure')} moved by "
            f"{moved.rms:.5f} MJy/sr rms, {moved.largest:.5f} at most"
        )
    return moved.largest


def _exposures_moved(band: str, aligned: Aligned, run: Run) -> float | None:
    solved = run.results({"alignment": aligned.solution}) if aligned.solution and aligned.earlier else {}
    if not solved or not aligned.earlier:
        return None
    table = SolvedAlignment.of(solved["alignment"]).table.stored
    moved = alignment.moves(aligned.earlier, alignment.read_alignment(store.read_bytes(table.uri).decode()))
    if run.survey.resolve:
        run.note(
            f"{band}: {counted(moved.exposures, 'exposure')} aligned earlier moved by "
            f"{moved.rms:.2f} mas rms, {moved.largest:.2f} at most"
        )
    return moved.largest


def _fluxes_moved(band: str, aligned: Aligned, run: Run) -> float | None:
    if run.survey.exposures.flux_scale == "none" or not aligned.earlier_fluxes or not aligned.solution:
        return None
    solved = run.results({"alignment": aligned.solution})
    if not solved:
        return None
    table = SolvedNetwork.of(solved["alignment"]).fluxes.stored
    moved = flux_moves(aligned.earlier_fluxes, read_fluxes(store.read_bytes(table.uri).decode()), band)
    if run.survey.resolve:
        run.note(
            f"{band}: flux scales of {counted(moved.exposures, 'detector')} moved by {moved.rms:.4f} mag rms,"
            f" {moved.largest:.4f} at most"
        )
    return moved.largest
