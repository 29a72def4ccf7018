"""The measured flux scale of a detector, applied to one exposure."""

from pathlib import Path

from astropy.io import fits
from jwst import datamodels

from cosmosaic.astrometry.flux_solution import read_factor
from cosmosaic.provenance import save_model
from cosmosaic.steps.result import Made

KEYWORD = "CMFLUX"
"""Keyword of an exposure with the factor that its pixels were multiplied with."""
VARIANCES = ("var_poisson", "var_rnoise", "var_flat")


def scale_exposure(exposure: Path, factor: Path, folder: Path) -> Made:
    """Multiply the pixels of one exposure with the flux scale of its detector.

    SCI, ERR and, squared, the variances change, and with them the conversion from counts (PHOTMJSR, PHOTUJA2) and a
    recorded sky level. The factor is written into the header; one that is there already is included.

    Parameters
    ----------
    exposure
        A ``_cal`` file.
    factor
        Its ``_flux.json``.
    folder
        Gets the exposure under the same name.
    """
    scale = read_factor(factor.read_text())
    with datamodels.open(exposure) as model:
        model.data *= scale
        model.err *= scale
        for name in VARIANCES:
            if model.hasattr(name):
                setattr(model, name, getattr(model, name) * scale**2)
        for part, name in (
            (model.meta.photometry, "conversion_megajanskys"),
            (model.meta.photometry, "conversion_microjanskys"),
            (model.meta.background, "level"),
        ):
            if (value := getattr(part, name)) is not None:
                setattr(part, name, value * scale)
        made = save_model(model, folder / exposure.name)
    with fits.open(made, mode="update") as hdus:
        header = hdus["SCI"].header
        header[KEYWORD] = (scale * header.get(KEYWORD, 1.0), "flux scale of the detector, included in SCI")
    return Made(cal=made)
