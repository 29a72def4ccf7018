"""Relative and absolute astrometry of the exposures of one filter, by jwst's tweakreg."""

from pathlib import Path

from jwst.tweakreg import TweakRegStep

from cosmosaic.exposures import open_exposures, save_exposures
from cosmosaic.records import Made
from cosmosaic.survey import AlignSettings


class AlignmentError(RuntimeError):
    """The exposures could not be aligned."""


def align_exposures(paths: list[Path], settings: AlignSettings, fwhm_pixels: float, folder: Path) -> Made:
    """Correct the WCS of exposures by the stars they share, or by a reference catalogue.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter; with a reference catalogue of the user's own, its file comes last.
    settings
        How stars are found and matched.
    fwhm_pixels
        Width of a star in detector pixels.
    folder
        Where the corrected ``_cal`` files go.

    Raises
    ------
    AlignmentError
        tweakreg found too few stars in common.
    """
    exposures = [path for path in paths if path.name.endswith("_cal.fits")]
    own_catalog = [str(path) for path in paths if path not in exposures]
    reference = own_catalog[0] if own_catalog else settings.reference_catalog or ""
    aligned = TweakRegStep.call(
        open_exposures(exposures, folder.parent),
        starfinder="iraf",
        snr_threshold=settings.snr_threshold,
        kernel_fwhm=fwhm_pixels,
        minobj=settings.minimum_objects,
        brightest=200,
        # Undersampled JWST stars are sharper than the step's defaults admit.
        sharplo=0.0,
        sharphi=5.0,
        roundlo=0.0,
        roundhi=0.5,
        fitgeometry=settings.fit,
        nclip=3,
        sigma=3.0,
        searchrad=1.0,
        separation=2 * settings.tolerance_arcsec,
        tolerance=settings.tolerance_arcsec,
        use2dhist=True,
        expand_refcat=True,
        abs_refcat=reference,
        abs_minobj=settings.minimum_objects,
        abs_fitgeometry=settings.fit,
        abs_searchrad=1.0,
        abs_separation=2 * settings.tolerance_arcsec,
        abs_tolerance=settings.tolerance_arcsec,
        in_memory=False,
    )
    _require_success(aligned)
    return Made(save_exposures(aligned, "_cal", folder))


def _require_success(library: object) -> None:
    with library:  # type: ignore[attr-defined]
        states = []
        for model in library:  # type: ignore[attr-defined]
            states.append((model.meta.filename, model.meta.cal_step.tweakreg))
            library.shelve(model, modify=False)  # type: ignore[attr-defined]
    failed = [name for name, state in states if state != "COMPLETE"]
    if failed:
        raise AlignmentError(
            f"{len(failed)} of {len(states)} exposures could not be aligned ({failed[0]}, ...): too few "
            "stars in common. Lower align.snr_threshold or align.minimum_objects, or set align.enabled to false"
        )
