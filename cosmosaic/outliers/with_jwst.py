"""Outlier detection with the jwst package's own step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jwst import datamodels
from jwst.outlier_detection import OutlierDetectionStep
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.cells.binning import bin_exposure
from cosmosaic.cells.units import write_cells
from cosmosaic.dq import border, implausible_in, is_usable
from cosmosaic.exposures.library import exposure_name, open_exposures, save_exposures
from cosmosaic.exposures.patterns import ExposureSky, pattern_image, read_exposure_sky
from cosmosaic.exposures.wcs import make_fits_wcs_agree
from cosmosaic.records import Lattice
from cosmosaic.steps.result import Made
from cosmosaic.survey import DrizzleSettings, OutlierSettings, SkyTreatment

FEWEST_GROUPS = 3
"""With two exposures the median is their mean: a cosmic ray is missed, or makes a hole in both."""


def flag_outliers(
    exposures: Mapping[str, Path],
    skies: Mapping[str, Path],
    treatment: SkyTreatment,
    thresholds: OutlierSettings,
    drizzle: DrizzleSettings,
    cells: Lattice,
    folder: Path,
) -> Made:
    """Subtract the sky and flag outliers by comparing exposures.

    Parameters
    ----------
    exposures
        ``_cal`` files of one filter by name.
    skies
        Their ``_sky.json`` files, where their sky was measured.
    treatment
        Whether the level is subtracted or only recorded, and width of the border that becomes DO_NOT_USE.
    thresholds
        Of the two passes.
    drizzle
        Kernel and weights of the mosaics that the exposures are compared with.
    cells
        The lattice of cells.
    folder
        Gets the ``_crf`` files, and for the verdict ``<exposure>_cleared.npz``.
    """
    library = open_exposures(list(exposures.values()), folder.parent)
    _clear(library, {name: read_exposure_sky(path) for name, path in skies.items()}, treatment)
    if thresholds.enabled and len(library.group_names) >= FEWEST_GROUPS:
        library = _detect(library, thresholds, drizzle)
    crfs = {exposure_name(path.name): path for path in save_exposures(library, "_crf", folder)}
    for crf in crfs.values():
        make_fits_wcs_agree(crf)
    return Made(crfs=crfs, cleared={name: _bin_cleared(crf, cells, folder) for name, crf in crfs.items()})


def _bin_cleared(crf: Path, grid: Lattice, folder: Path) -> Path:
    """Bin one exposure, in the state in which it is combined and without its sky, to the lattice of cells.

    Parameters
    ----------
    crf
        A ``_crf`` file; a level that its header records as not subtracted is subtracted first.
    grid
        The lattice.
    folder
        Gets ``<exposure>_cleared.npz``.
    """
    with datamodels.open(crf) as model:
        background = model.meta.background
        if background.level and not background.subtracted:
            model.data -= background.level
        exposure = bin_exposure(model, grid)
    return write_cells(exposure, folder / f"{exposure.name}_cleared.npz")


def _clear(library: Any, skies: Mapping[str, ExposureSky], treatment: SkyTreatment) -> None:
    with library:
        for model in library:
            model.dq[implausible_in(model)] |= pixel["DO_NOT_USE"]
            sky = skies.get(exposure_name(model.meta.filename))
            if sky and len(sky.patterns):
                usable = is_usable(model.data, model.err, model.dq)
                model.data -= pattern_image(sky.patterns, usable)
            model.dq[border(model.dq.shape, treatment.trim_pixels)] |= pixel["DO_NOT_USE"]
            if sky:
                _subtract_level(model, sky.level, treatment)
            library.shelve(model)


def _subtract_level(model: Any, level: float, treatment: SkyTreatment) -> None:
    # Set level and state together: resample subtracts a level that is not marked as subtracted.
    model.meta.background.level = level
    model.meta.background.subtracted = treatment.subtract
    model.meta.background.method = treatment.method
    if treatment.subtract:
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
