"""Outlier detection and resampling with the jwst package's own steps."""

from pathlib import Path
from typing import Any

from jwst.outlier_detection import OutlierDetectionStep
from jwst.resample import ResampleStep
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.dq import border, implausible_in, is_usable
from cosmosaic.exposures.library import exposure_name, open_exposures, save_exposures
from cosmosaic.exposures.patterns import pattern_image, read_patterns
from cosmosaic.geometry.grid import resample_parameters
from cosmosaic.mosaic.noise import note_noise_factor
from cosmosaic.provenance import save_model
from cosmosaic.records import Made, MosaicGrid
from cosmosaic.sky.solution import PATTERNS_SUFFIX
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkySettings
from cosmosaic.verdict.keywords import note_verdict

FEWEST_GROUPS = 3
"""With two exposures the median is their mean: a cosmic ray is missed, or makes a hole in both."""


def flag_outliers(
    paths: list[Path],
    levels: dict[str, float] | None,
    sky: SkySettings,
    outliers: OutlierSettings,
    drizzle: DrizzleSettings,
    folder: Path,
) -> Made:
    """Take the sky out and flag what differs from exposure to exposure.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter, and ``_patterns.json`` of those that have any.
    levels
        Sky in MJy/sr by the exposure's name, where it was measured.
    sky
        Whether the level is subtracted or only recorded, and width of the border that becomes DO_NOT_USE.
    outliers
        Thresholds.
    drizzle
        Kernel and weights of the mosaics that the exposures are compared through.
    folder
        Where the ``_crf`` files go.
    """
    patterns = {path.name.removesuffix(PATTERNS_SUFFIX): path for path in paths if path.suffix == ".json"}
    library = open_exposures([path for path in paths if path.suffix == ".fits"], folder.parent)
    if levels is not None or sky.trim_pixels:
        _take_out(library, levels, patterns, sky)
    if outliers.enabled and len(library.group_names) >= FEWEST_GROUPS:
        library = _detect(library, outliers, drizzle)
    return Made(save_exposures(library, "_crf", folder))


def drizzle_mosaic(
    paths: list[Path], grid: MosaicGrid, settings: DrizzleSettings, product_name: str, folder: Path
) -> Made:
    """Combine the exposures of one filter on the survey's grid.

    Parameters
    ----------
    paths
        ``_crf`` files of one filter, and the ``_verdict.ecsv`` on their sky, where it was judged.
    grid
        The window of the pixel grid to fill.
    settings
        Kernel, pixel fraction and weights.
    product_name
        Name of the mosaic without ``_i2d.fits``.
    folder
        Where the mosaic (MJy/sr, NaN where nothing was observed) goes.
    """
    verdicts = [path for path in paths if path.name.endswith("_verdict.ecsv")]
    exposures = [path for path in paths if path not in verdicts]
    mosaic = ResampleStep.call(
        open_exposures(exposures, folder.parent),
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
        **resample_parameters(grid),
    )
    mosaic.meta.asn.table_name = f"{product_name}_asn.json"
    path = save_model(mosaic, folder / f"{product_name}_i2d.fits")
    note_noise_factor(path)
    for verdict in verdicts:
        note_verdict(path, verdict)
    return Made([path])


def _take_out(library: Any, levels: dict[str, float] | None, patterns: dict[str, Path], sky: SkySettings) -> None:
    with library:
        for model in library:
            name = exposure_name(model.meta.filename)
            model.dq[implausible_in(model)] |= pixel["DO_NOT_USE"]
            if name in patterns:
                usable = is_usable(model.data, model.err, model.dq)
                model.data -= pattern_image(read_patterns(patterns[name]), usable)
            model.dq[border(model.dq.shape, sky.trim_pixels)] |= pixel["DO_NOT_USE"]
            if levels is not None:
                _subtract_level(model, levels[name], sky)
            library.shelve(model)


def _subtract_level(model: Any, level: float, sky: SkySettings) -> None:
    # Level and state go together: resample subtracts a level that is not marked as subtracted.
    model.meta.background.level = level
    model.meta.background.subtracted = sky.subtract
    model.meta.background.method = sky.method
    if sky.subtract:
        model.data -= level


def _detect(library: Any, outliers: OutlierSettings, drizzle: DrizzleSettings) -> Any:
    return OutlierDetectionStep.call(
        library,
        weight_type=drizzle.weight_type,
        pixfrac=drizzle.pixfrac,
        kernel=drizzle.kernel if drizzle.kernel in ("square", "point", "turbo") else "square",
        fillval="NAN",
        maskpt=outliers.weight_threshold,
        snr=" ".join(map(str, outliers.snr)),
        scale=" ".join(map(str, outliers.scale)),
        backg=0.0,
        resample_data=True,
        good_bits="~DO_NOT_USE",
        save_intermediate_results=False,
        in_memory=False,
        pixmap_stepsize=1.0,
    )
