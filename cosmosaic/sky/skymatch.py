"""The methods of jwst's skymatch, which find one value for all detectors of an exposure."""

from typing import Any

from jwst.skymatch import SkyMatchStep

from cosmosaic.exposures import exposure_name


def measure_with_skymatch(library: Any, method: str) -> dict[str, float]:
    """Return the sky level of each exposure as skymatch finds it, in the data's unit, by exposure name.

    Parameters
    ----------
    library
        A `jwst.datamodels.ModelLibrary`.
    method
        ``local``, ``global``, ``match`` or ``global+match``.
    """
    matched = SkyMatchStep.call(
        library,
        skymethod=method,
        match_down=True,
        # The level is only measured here; it is applied in one place, when exposures are combined.
        subtract=False,
        skystat="mode",
        dqbits="~DO_NOT_USE+NON_SCIENCE",
        nclip=5,
        lsigma=4.0,
        usigma=4.0,
        binwidth=0.1,
        in_memory=False,
    )
    levels = {}
    with matched:
        for model in matched:
            levels[exposure_name(model.meta.filename)] = float(model.meta.background.level or 0.0)
            matched.shelve(model, modify=False)
    return levels
