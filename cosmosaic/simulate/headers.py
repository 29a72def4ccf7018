"""Headers of simulated frames, and files that do not depend on when and where they were written."""

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
from cosmosaic.simulate.plan import PlannedFrame, exposure_duration_s
from cosmosaic.survey import SimulationSettings


def describe_frame(model: JwstDataModel, frame: PlannedFrame, settings: SimulationSettings) -> None:
    """Fill a data model's metadata with the keywords of a raw NIRCam image.

    The pointing is the nominal one, without the pointing error.

    Parameters
    ----------
    model
        Changed in place.
    frame
        The exposure and detector.
    settings
        Settings of the readout.
    """
    sections = {
        "program": {"title": "Simulated survey", "pi_name": "None", "category": "GO", "sub_category": "NONE"},
        "observation": _observation(frame, settings),
        "visit": {
            "engineering_quality": "OK",
            "engdb_pointing_quality": "CALCULATED_TR_202105",
            "type": "PRIME_TARGETED_FIXED",
            "status": "SUCCESSFUL",
            "start_time": frame.start,
            "tsovisit": False,
        },
        "target": {
            "proposer_name": "FIELD",
            "catalog_name": "FIELD",
            "type": "FIXED",
            "ra": frame.ra,
            "dec": frame.dec,
            "proposer_ra": frame.ra,
            "proposer_dec": frame.dec,
        },
        "instrument": {
            "name": "NIRCAM",
            "detector": frame.detector,
            "module": frame.detector[3],
            "channel": "LONG" if is_long_wavelength_detector(frame.detector) else "SHORT",
            "filter": frame.filter,
            "pupil": frame.pupil,
        },
        "exposure": _exposure(frame, settings),
        "dither": {"primary_type": "NONE", "position_number": int(frame.exposure)},
        "guidestar": {"gs_pcs_mode": "FINEGUIDE"},
        "aperture": {"name": frame.aperture, "pps_name": frame.pointed_aperture},
        **_pointing(frame),
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


def _observation(frame: PlannedFrame, settings: SimulationSettings) -> dict[str, Any]:
    start = datetime.fromisoformat(frame.start)
    end = start + timedelta(seconds=exposure_duration_s(settings))
    visit_id = f"{frame.program}{frame.observation}{frame.visit}"
    return {
        "date": start.date().isoformat(),
        "time": start.time().isoformat(timespec="milliseconds"),
        "date_beg": start.isoformat(timespec="milliseconds"),
        "date_end": end.isoformat(timespec="milliseconds"),
        "obs_id": f"V{visit_id}P0000000{frame.visit_group}{frame.parallel_sequence}{frame.activity}",
        "visit_id": visit_id,
        "program_number": frame.program,
        "observation_number": frame.observation,
        "visit_number": frame.visit,
        "visit_group": frame.visit_group,
        "sequence_id": frame.parallel_sequence,
        "activity_id": frame.activity,
        "exposure_number": frame.exposure,
        "template": "NIRCam Imaging",
    }


def _exposure(frame: PlannedFrame, settings: SimulationSettings) -> dict[str, Any]:
    pattern = READOUT_PATTERNS[settings.readout_pattern]
    frame_time = FRAME_TIME_S[settings.subarray]
    duration = exposure_duration_s(settings)
    start = float(Time(frame.start, scale="utc").mjd)
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


def _pointing(frame: PlannedFrame) -> dict[str, dict[str, Any]]:
    keywords = nominal_wcs_keywords(frame)
    fast, slow = scan_directions(frame.detector)
    corners = np.column_stack(footprint(frame, nominal_view(frame))).ravel()
    return {
        "coordinates": {"reference_frame": "ICRS"},
        "pointing": {name: keywords[name] for name in ("ra_v1", "dec_v1", "pa_v3")},
        "velocity_aberration": {"scale_factor": frame.va_scale},
        "subarray": {
            "name": frame.subarray,
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
