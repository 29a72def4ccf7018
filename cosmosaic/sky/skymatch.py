"""The methods of jwst's skymatch: one value for all detectors of an exposure group, or one for each."""

from pathlib import Path

from jwst.datamodels import ModelLibrary
from jwst.skymatch import SkyMatchStep

from cosmosaic.exposures.library import exposure_name, open_exposures


def measure_with_skymatch(paths: list[Path], method: str, folder: Path, *, per_detector: bool) -> dict[str, float]:
    """Return the sky level of each exposure as skymatch finds it, in the data's unit, by exposure name.

    Parameters
    ----------
    paths
        ``_cal`` files of one filter.
    method
        ``local``, ``global``, ``match`` or ``global+match``.
    folder
        Folder for the association.
    per_detector
        Give every detector its own group, but only for skymatch: the same ids would affect outlier
        detection and exposure times. Without it skymatch finds one value for all detectors of an exposure group.
    """
    matched = SkyMatchStep.call(
        _detector_groups(paths) if per_detector else open_exposures(paths, folder),
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


def _detector_groups(paths: list[Path]) -> ModelLibrary:
    members = [{"expname": str(path.resolve()), "exptype": "science", "group_id": path.name} for path in paths]
    return ModelLibrary({"asn_type": "image3", "products": [{"name": "sky", "members": members}]}, on_disk=True)
