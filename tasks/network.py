"""The products of the one solution that aligns the exposures of all filters."""

from collections.abc import Mapping

from cosmosaic.astrometry.steps import Aligned
from cosmosaic.catalog.steps import MeasuredBand
from cosmosaic.outliers.steps import FlaggedBand
from cosmosaic.sharpness.steps import compare_sharpness, write_astrometry_page
from tasks.runtime.run import Run


def publish_network(
    bands: Mapping[str, tuple[Aligned, FlaggedBand]], measured: Mapping[str, MeasuredBand], run: Run
) -> None:
    """Publish the solution, if there is one, its stars, the sharpness of the mosaics that it left, and its page.

    Parameters
    ----------
    bands
        The exposures of each filter, aligned and then flagged.
    measured
        The mosaics of each filter.
    run
        The run.
    """
    solved = next((aligned.network for aligned, _ in bands.values() if aligned.network), None)
    if not solved:
        return
    run.publish("alignment", (solved, *(stars for aligned, _ in bands.values() for stars in aligned.stars)))
    compared = {}
    for name, (aligned, flagged) in bands.items():
        given = measured[name].given
        for window in given.mosaics[:1] if given.windows.is_whole_made else given.mosaics:
            mosaic, label = measured[name].mosaics[window.tile].mosaic, given.label(window)
            crfs = {member: flagged.crfs[member] for member in given.members(window) if member in flagged.crfs}
            compared[label] = compare_sharpness(aligned, solved, crfs, mosaic, window, run)
            run.publish(f"{label} sharpness", [compared[label]], given.columns(window))
    run.publish("astrometry page", [write_astrometry_page(solved, compared, run)])
