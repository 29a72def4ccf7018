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
        whole = given.windows.whole
        mosaic = measured[name].mosaics[whole.tile].mosaic
        compared[name] = compare_sharpness(aligned, solved, flagged.crfs, mosaic, whole, run)
        run.publish(f"{name} sharpness", [compared[name]], given.columns(whole))
    run.publish("astrometry page", [write_astrometry_page(solved, compared, run)])
