"""The mosaic by the jwst package's own resample step."""

from collections.abc import Mapping
from pathlib import Path

from jwst.resample import ResampleStep

from cosmosaic.astrometry.keywords import note_astrometry
from cosmosaic.exposures.library import open_exposures
from cosmosaic.geometry.grid import resample_parameters
from cosmosaic.mosaic.noise import note_noise_factor
from cosmosaic.provenance import save_model
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made
from cosmosaic.survey import DrizzleSettings
from cosmosaic.verdict.keywords import note_verdict


def drizzle_mosaic(
    crfs: Mapping[str, Path],
    verdict: Path | None,
    astrometry: Path | None,
    window: MosaicGrid,
    settings: DrizzleSettings,
    product_name: str,
    folder: Path,
) -> Made:
    """Combine the exposures of one filter on the survey's grid.

    Parameters
    ----------
    crfs
        ``_crf`` files of one filter by exposure.
    verdict
        The ``_verdict.ecsv`` on their sky, if the header should record it.
    astrometry
        The ``_astrometry.ecsv`` of the survey, likewise.
    window
        The window of the pixel grid to fill.
    settings
        Kernel, pixel fraction and weights.
    product_name
        Name of the mosaic without ``_i2d.fits``.
    folder
        Gets the mosaic (MJy/sr, NaN where nothing was observed).
    """
    mosaic = ResampleStep.call(
        open_exposures(list(crfs.values()), folder.parent),
        pixfrac=settings.pixfrac,
        kernel=settings.kernel,
        weight_type=settings.weight_type,
        fillval="NAN",
        blendheaders=True,
        enable_ctx=True,
        enable_err=True,
        report_var=True,
        pixmap_stepsize=1.0,
        in_memory=False,
        **resample_parameters(window),
    )
    mosaic.meta.asn.table_name = f"{product_name}_asn.json"
    path = save_model(mosaic, folder / f"{product_name}_i2d.fits")
    note_noise_factor(path)
    if verdict:
        note_verdict(path, verdict)
    if astrometry:
        note_astrometry(path, astrometry)
    return Made(mosaic=path)
