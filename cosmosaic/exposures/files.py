"""The files of an exposure by the level of its calibration."""

from cosmosaic.steps.files import File


class Uncal(File, suffix="_uncal.fits"):
    """Ramp of one detector, DN."""


class Rate(File, suffix="_rate.fits", kind="rate", folder="exposures"):
    """Count rate, DN/s."""


class Cal(File, suffix="_cal.fits", kind="cal", folder="exposures"):
    """Surface brightness, MJy/sr."""
