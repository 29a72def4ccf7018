"""Headers of simulated exposures, and files that do not depend on when and where they were written."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time
from stdatamodels.jwst.datamodels import JwstDataModel

from cosmosaic.nircam import is_long_wavelength_detector
from cosmosaic.provenance import save_model
from cosmosaic.simulate.geometry import footprint, nominal_view, nominal_wcs_keywords
from cosmosaic.simulate.instrument import (
    FRAME_TIME_S,
    READOUT_PATTERNS,
    number_of_outputs,
    scan_directions,
)
from cosmosaic.simulate.plan import PlannedExposure, exposure_duration_s
from cosmosaic.survey import SimulationSettings


def set_metadata(model: JwstDataModel, exposure: PlannedExposure, settings: SimulationSettings) -> None:
    """Fill a data model's metadata with the keywords of a raw NIRCam image.

    The pointing is the nominal one, without the pointing error.

    Parameters
    ----------
    model
        Changed in place.
    exposure
        The exposure and detector.
    settings
        Settings of the readout.
    """
    sections = {
        "program": {"title": "Simulated survey", "pi_name": "None", "category": "GO", "sub_category": "NONE"},
        "observation": _observation(exposure, settings),
        "visit": {
            "engineering_quality": "OK",
            "engdb_pointing_quality": "CALCULATED_TR_202105",
            "type": "PRIME_TARGETED_FIXED",
            "status": "SUCCESSFUL",
            "start_time": exposure.start,
            "tsovisit": False,
        },
        "target": {
            "proposer_name": "FIELD",
            "catalog_name": "FIELD",
            "type": "FIXED",
            "ra": exposure.ra,
            "dec": exposure.dec,
            "proposer_ra": exposure.ra,
            "proposer_dec": exposure.dec,
        },
        "instrument": {
            "name": "NIRCAM",
            "detector": exposure.detector,
            "module": exposure.detector[3],
            "channel": "LONG" if is_long_wavelength_detector(exposure.detector) else "SHORT",
            "filter": exposure.filter,
            "pupil": exposure.pupil,
        },
        "exposure": _exposure(exposure, settings),
        "dither": {"primary_type": "NONE", "position_number": int(exposure.exposure)},
        "guidestar": {"gs_pcs_mode": "FINEGUIDE"},
        "aperture": {"name": exposure.aperture, "pps_name": exposure.pointed_aperture},
        **_pointing(exposure),
    }
    model.meta.telescope = "JWST"
    for section, values in sections.items():
        for name, value in values.items():
            setattr(getattr(model.meta, section), name, value)


def save_reproducibly(model: JwstDataModel, path: Path) -> None:
    """Write a data model so that equal models give equal bytes: without the time of writing.

    Parameters
    ----------
    model
        Its file name becomes that of `path`.
    path
        FITS file; replaced if it exists.
    """
    model.meta.filetype = "raw" if path.name.endswith("_uncal.fits") else "calibrated"
    save_model(model, path)


def _observation(exposure: PlannedExposure, settings: SimulationSettings) -> dict[str, Any]:
    start = datetime.fromisoformat(exposure.start)
    end = start + timedelta(seconds=exposure_duration_s(settings))
    visit_id = f"{exposure.program}{exposure.observation}{exposure.visit}"
    return {
        "date": start.date().isoformat(),
        "time": start.time().isoformat(timespec="milliseconds"),
        "date_beg": start.isoformat(timespec="milliseconds"),
        "date_end": end.isoformat(timespec="milliseconds"),
        "obs_id": f"V{visit_id}P0000000{exposure.visit_group}{exposure.parallel_sequence}{exposure.activity}",
        "visit_id": visit_id,
        "program_number": exposure.program,
        "observation_number": exposure.observation,
        "visit_number": exposure.visit,
        "visit_group": exposure.visit_group,
        "sequence_id": exposure.parallel_sequence,
        "activity_id": exposure.activity,
        "exposure_number": exposure.exposure,
        "template": "NIRCam Imaging",
    }


def _exposure(exposure: PlannedExposure, settings: SimulationSettings) -> dict[str, Any]:
    pattern = READOUT_PATTERNS[settings.readout_pattern]
    frame_time = FRAME_TIME_S[settings.subarray]
    duration = exposure_duration_s(settings)
    start = float(Time(exposure.start, scale="utc").mjd)
    days = duration / 86400
    return {
        "count": 1,
        "type": "NRC_IMAGE",
        "start_time": start,
        "mid_time": start + days / 2,
        "end_time": start + days,
        "start_time_mjd": start,
        "mid_time_mjd": start + days / 2,
        "end_time_mjd": start + days,
        "readpatt": settings.readout_pattern,
        "noutputs": number_of_outputs(settings.subarray),
        "nints": 1,
        "integration_start": 1,
        "integration_end": 1,
        "ngroups": settings.groups,
        "nframes": pattern.nframes,
        "frame_divisor": pattern.nframes,
        "groupgap": pattern.groupgap,
        "nsamples": 1,
        "sample_time": 10,
        "frame_time": frame_time,
        "group_time": frame_time * (pattern.nframes + pattern.groupgap),
        "integration_time": duration,
        "exposure_time": duration,
        "effective_exposure_time": duration,
        "measurement_time": duration,
        "duration": duration,
        "elapsed_exposure_time": duration,
        "nresets_at_start": 1,
        "nresets_between_ints": 0,
        "zero_frame": False,
        "data_problem": False,
    }


def _pointing(exposure: PlannedExposure) -> dict[str, dict[str, Any]]:
    keywords = nominal_wcs_keywords(exposure)
    fast, slow = scan_directions(exposure.detector)
    corners = np.column_stack(footprint(exposure, nominal_view(exposure))).ravel()
    return {
        "coordinates": {"reference_frame": "ICRS"},
        "pointing": {name: keywords[name] for name in ("ra_v1", "dec_v1", "pa_v3")},
        "velocity_aberration": {"scale_factor": exposure.va_scale},
        "subarray": {
            "name": exposure.subarray,
            "xstart": keywords["substrt1"],
            "ystart": keywords["substrt2"],
            "xsize": keywords["subsize1"],
            "ysize": keywords["subsize2"],
            "fastaxis": fast,
            "slowaxis": slow,
        },
        "wcsinfo": {
            **{name: keywords[name] for name in ("ra_ref", "dec_ref", "roll_ref", "v2_ref", "v3_ref", "vparity")},
            "v3yangle": keywords["v3i_yang"],
            "wcsaxes": 2,
            "crpix1": (keywords["subsize1"] + 1) / 2,
            "crpix2": (keywords["subsize2"] + 1) / 2,
            "crval1": keywords["ra_ref"],
            "crval2": keywords["dec_ref"],
            "ctype1": "RA---TAN",
            "ctype2": "DEC--TAN",
            "cunit1": "deg",
            "cunit2": "deg",
            "s_region": "POLYGON ICRS  " + " ".join(f"{value:.9f}" for value in corners),
        },
    }
