"""Stages 1 and 2 of the jwst package for one exposure: ramps to count rates to surface brightness.

Every relevant parameter is set here; parameter references of CRDS are not used.
"""

from pathlib import Path
from typing import Any

from jwst import datamodels
from jwst.clean_flicker_noise import CleanFlickerNoiseStep
from jwst.pipeline import Detector1Pipeline, Image2Pipeline

from cosmosaic.artefacts.corrections import remove_flicker
from cosmosaic.calibrate.engine import engine_of, note_engine
from cosmosaic.calibrate.fused.pipeline import FusedDetector1Pipeline
from cosmosaic.calibrate.gain import check_gain_map
from cosmosaic.calibrate.references import localise_cache
from cosmosaic.calibrate.single_group import measure_errors
from cosmosaic.dq import is_usable
from cosmosaic.exposures.library import exposure_name
from cosmosaic.processes import workers
from cosmosaic.provenance import save_model
from cosmosaic.steps.result import Made
from cosmosaic.survey import ExposureSettings, FlickerCorrection

REMEDY = "it cannot be calibrated; leave it out with exclude"


class UnusableExposureError(ValueError):
    """No pixel of an exposure can be used; the message names it."""


def calibrate_ramp(ramp: Path, gain_map: Path | None, settings: ExposureSettings, detector: str, folder: Path) -> Made:
    """Convert one ramp to surface brightness (Stages 1 and 2); the count rate stays in memory.

    Parameters
    ----------
    ramp
        The ``_uncal`` file.
    gain_map
        The user's, in place of the reference file.
    settings
        Engine, cosmic rays, 1/f noise, and whether the count rate is kept.
    detector
        The detector of the gain map, e.g. ``NRCB1``.
    folder
        Gets the ``_cal`` file (MJy/sr) and, if asked for, the ``_rate`` file (DN/s).

    Raises
    ------
    cosmosaic.calibrate.gain.GainMapError
        The gain map cannot be used for this detector.
    UnusableExposureError
        No pixel has a count rate.
    """
    model = count_rate(ramp, gain_map, settings, detector)
    name = exposure_name(ramp.name)
    # A copy, since writing changes the model: an exposure is the same whether its count rate is kept or not.
    rate = save_model(model.copy(), folder / f"{name}_rate.fits") if settings.publish_rates else None
    made = _calibrate(model, settings.flicker_noise, folder / f"{name}_cal.fits")
    return Made(rate=rate, **made.files, facts=made.facts)


def calibrate_rate(rate: Path, flicker_noise: FlickerCorrection, folder: Path) -> Made:
    """Convert one count-rate image to surface brightness (Stage 2).

    Parameters
    ----------
    rate
        The ``_rate`` file.
    flicker_noise
        Correction of 1/f noise; an image that was already corrected is not corrected again.
    folder
        Gets the ``_cal`` file (MJy/sr).

    Raises
    ------
    UnusableExposureError
        No pixel has a count rate.
    """
    localise_cache(workers.shared_folder())
    with datamodels.open(str(rate)) as model:
        _require_usable_pixels(model, rate)
        return _calibrate(model, flicker_noise, folder / f"{exposure_name(rate.name)}_cal.fits")


def clean_calibrated(exposure: Path, flicker_noise: FlickerCorrection, folder: Path) -> Made:
    """Subtract the 1/f noise of an exposure that was calibrated elsewhere.

    The flat field has scaled its stripes by some per cent, which is less than is left of them.

    Parameters
    ----------
    exposure
        The ``_cal`` file.
    flicker_noise
        Correction of 1/f noise.
    folder
        Gets the corrected file, under the same name.

    Raises
    ------
    UnusableExposureError
        The file lacks a plane, or no pixel has a value and an error.
    """
    try:
        with datamodels.open(str(exposure)) as model:
            _require_usable_pixels(model, exposure)
            cleaned = _without_flicker_noise(model, flicker_noise, apply_flat_field=False)
            return Made(cal=save_model(cleaned, folder / exposure.name))
    except (KeyError, AttributeError) as error:
        raise UnusableExposureError(f"{exposure.name}: no calibrated exposure of jwst ({error!r}); {REMEDY}") from error


def count_rate(ramp: Path, gain_map: Path | None, settings: ExposureSettings, detector: str) -> Any:
    """Make the count rate of one ramp (Stage 1), as a data model in DN/s; parameters as for `calibrate_ramp`."""
    localise_cache(workers.shared_folder())
    if gain_map:
        check_gain_map(gain_map, detector)
    steps = _stage1_parameters(settings, gain_map)
    pipeline = FusedDetector1Pipeline if settings.engine == "fused" else Detector1Pipeline
    model = pipeline.call(str(ramp), steps=steps, save_results=False, save_calibrated_ramp=False)
    if model is None:
        raise UnusableExposureError(f"{ramp.name}: all pixels are saturated from the first group on; {REMEDY}")
    _require_usable_pixels(model, ramp)
    if settings.engine == "jwst":
        note_engine(model, "jwst")
    return model


def _calibrate(rate: Any, flicker_noise: FlickerCorrection, path: Path) -> Made:
    """Subtract 1/f noise, and run Image2 without its resample step."""
    facts = _facts_of_stage1(rate)
    steps = {
        "bkg_subtract": {"skip": True},
        "assign_wcs": {"skip": False},
        "flat_field": {"skip": False},
        "photom": {"skip": False},
        # The mosaic is made from the cal exposures; resampling single exposures costs more than all the rest.
        "resample": {"skip": True},
    }
    cleaned = _without_flicker_noise(rate, flicker_noise, apply_flat_field=True)
    facts |= _errors_of_one_group(cleaned)
    (model,) = Image2Pipeline.call(cleaned, steps=steps, save_results=False)
    return Made(cal=save_model(model, path), facts=facts)


def _errors_of_one_group(rate: Any) -> dict[str, float | None]:
    """Measure the errors of an exposure of one group; nothing is done to others."""
    if rate.meta.exposure.ngroups != 1:
        return {}
    ratio = measure_errors(rate)
    return {"read_noise_ratio": ratio, "errors_unmeasured": float(ratio is None)}


def _require_usable_pixels(model: Any, path: Path) -> None:
    if not is_usable(model.data, model.err, model.dq).any():
        raise UnusableExposureError(f"{path.name}: no pixel has a value and an error; {REMEDY}")


def _facts_of_stage1(rate: Any) -> dict[str, float | None]:
    """Warnings about Stage 1, whichever software ran it: zero if there are none."""
    steps, groups = rate.meta.cal_step, rate.meta.exposure.ngroups or 0
    engine = engine_of(rate)
    return {
        "fused": None if engine is None else float(engine == "fused"),
        "groups_without_search": float(groups if steps.jump == "SKIPPED" else 0),
        "dark_left": float(steps.dark_sub == "SKIPPED"),
    }


def _stage1_parameters(settings: ExposureSettings, gain_map: Path | None) -> dict[str, dict[str, Any]]:
    # Three steps read the gain independently: overriding it in only one of them would mix two gains.
    gain = {"override_gain": str(gain_map)} if gain_map else {}
    return {
        # One exposure per process: several cores within a step make it slower.
        "jump": {
            "rejection_threshold": settings.jump_rejection_sigma,
            "expand_large_events": settings.expand_large_events,
            "maximum_cores": "1",
            **gain,
        },
        "ramp_fit": {"algorithm": "OLS_C", "suppress_one_group": False, "maximum_cores": "1", **gain},
        "gain_scale": gain,
        "persistence": {"skip": True},
        # On the count rate, in Stage 2: see `clean_flicker_noise`.
        "clean_flicker_noise": {"skip": True},
    }


def _without_flicker_noise(image: Any, correction: FlickerCorrection, *, apply_flat_field: bool) -> Any:
    if correction == "none" or image.meta.cal_step.clean_flicker_noise == "COMPLETE":
        return image
    if correction == "fast":
        remove_flicker(image)
        return image
    return clean_flicker_noise(image, apply_flat_field=apply_flat_field)


def clean_flicker_noise(rate: Any, *, apply_flat_field: bool) -> Any:
    """Subtract 1/f noise from a count-rate image, row by row of the readout, with jwst's step.

    Inside Detector1 the step cleans differences of groups. Those are whole DN where the reads of a group are averaged
    on board, and so are their medians: the sky, a few DN a group, moves by up to half a DN and the stripes stay.
    """
    return CleanFlickerNoiseStep.call(
        rate,
        skip=False,
        fit_method="median",
        fit_by_channel=True,
        background_method="median",
        mask_science_regions=False,
        apply_flat_field=apply_flat_field,
        # Clipping at 2 sigma, jwst's default, shifts the level of the skewed sky distribution by 1 %.
        n_sigma=3.0,
    )
