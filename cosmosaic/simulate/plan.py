"""The observations of a synthetic survey: one record per exposure (detector), made from the settings alone."""

from datetime import datetime, timedelta
from itertools import product
from zlib import crc32

import numpy as np

from cosmosaic.geometry.siaf import aperture_name, nircam_apertures
from cosmosaic.nircam import DICHROIC_UM, PASSBANDS, band_name, is_long_wavelength_detector, wheels_of
from cosmosaic.records import Record
from cosmosaic.simulate.instrument import FRAME_TIME_S, READOUT_PATTERNS
from cosmosaic.survey import FilterPair, Pointing, SimulationSettings

PROGRAM = "01727"
SIMULATED_START = datetime(2023, 1, 5, 12, 0, 0)
"""UTC start of the first exposure of every synthetic survey."""

JULIAN_YEAR = timedelta(days=365.25)

DITHER_OVERHEAD_S = 60.0
"""From the end of an exposure to the start of the next."""

_PLACEMENT_LEVER_ARCSEC = 60.0
"""At this distance from its reference point, a detector's rotation moves a star as much as its shift."""
_PLACEMENT, _FILTER_OFFSET, _ROLL = 1, 2, 3
"""Keys of random draws that exposures share."""
_MOST_OBSERVATIONS = 999
_MOST_FILTER_PAIRS = 99


class PlannedExposure(Record):
    """One exposure of one detector that will be simulated.

    An attitude ties the sky to the telescope: the direction (``ra``, ``dec``) falls on the point
    (``v2``, ``v3``) and the local position angle of V3 there is ``roll``, as in
    `pysiaf.utils.rotations.attitude`.
    """

    name: str
    """File name without level and extension, e.g. ``jw01727001001_02101_00001_nrcb1``."""
    program: str
    """Five digits; the other identifiers as in the names of JWST files."""
    observation: str
    visit: str
    visit_group: str
    parallel_sequence: str
    activity: str
    exposure: str
    detector: str
    """``NRCA1`` to ``NRCB4``, ``NRCALONG`` or ``NRCBLONG``."""
    filter: str
    pupil: str
    aperture: str
    """SIAF aperture, e.g. ``NRCB1_SUB640`` or ``NRCA1_FULL``."""
    pointed_aperture: str
    """SIAF aperture about whose reference point the dithers are made, PPS_APER."""
    subarray: str
    start: str
    """UTC, ISO 8601."""
    v2: float
    v3: float
    """Reference point of the attitude in arcsec."""
    ra: float
    dec: float
    roll: float
    """Nominal attitude in degrees, as in the header."""
    ra_error_mas: float
    dec_error_mas: float
    """True minus nominal direction on the sky (the first times cos dec) in milliarcseconds."""
    roll_error_arcsec: float
    """True minus nominal roll."""
    va_scale: float
    """VA_SCALE of the header: true over apparent separations on the sky."""
    placement_mas: tuple[float, float]
    """Error (V2, V3) of the detector's place: true minus that of the distortion reference."""
    placement_rotation_arcsec: float
    """Error of the detector's rotation about its reference point, from V3 to V2."""
    filter_offset_mas: tuple[float, float]
    """(V2, V3) offset of the filter on this detector, which the filteroffset reference does not include."""
    seed: int
    """Seed of every random draw of this exposure."""

    @property
    def band(self) -> str:
        """The astronomers' name of the filter, in either wheel."""
        return band_name(f"{self.filter}-{self.pupil}")


class _ExposureGroup(Record):
    """Properties shared by the detectors that are read together."""

    observation: int
    pointing: Pointing
    pair_number: int
    filters: FilterPair
    dither_number: int
    target: tuple[float, float]
    """(V2, V3) in arcsec of the pointing."""
    start: datetime


def plan_exposures(settings: SimulationSettings) -> tuple[PlannedExposure, ...]:
    """Exposures of a synthetic survey: every pointing, filter pair and dither has an exposure of each detector.

    The pointing falls on the reference point of the pointed aperture: the module's long-wavelength detector, or
    NRCALL_FULL if both modules are read. A dither moves it by its offset along that aperture's ideal axes.

    Parameters
    ----------
    settings
        The synthetic survey.

    Returns
    -------
    tuple of PlannedExposure
        In the order of observation. Equal settings give equal exposures, and the random numbers of an exposure do not
        depend on the others.

    Raises
    ------
    ValueError
        A detector is named twice or does not have the subarray, a filter is not in its channel, or there are more
        pointings or filter pairs than JWST's file names can number.
    """
    _check(settings)
    return tuple(
        _plan_exposure(settings, together, detector)
        for together in _exposure_groups(settings)
        for detector in settings.detectors
    )


def exposure_duration_s(settings: SimulationSettings) -> float:
    """Seconds from the reset to the last read of each exposure."""
    pattern = READOUT_PATTERNS[settings.readout_pattern]
    frames = settings.groups * (pattern.nframes + pattern.groupgap) - pattern.groupgap
    return frames * FRAME_TIME_S[settings.subarray]


def _exposure_groups(settings: SimulationSettings) -> list[_ExposureGroup]:
    v2, v3 = nircam_apertures()[_pointed_aperture(settings)].idl_to_tel(*np.transpose(settings.dithers_arcsec))
    steps = product(
        enumerate(settings.pointings, start=1),
        enumerate(settings.filter_pairs, start=1),
        enumerate(zip(v2.tolist(), v3.tolist(), strict=True), start=1),
    )
    period = timedelta(seconds=round(exposure_duration_s(settings) + DITHER_OVERHEAD_S, 3))
    return [
        _ExposureGroup(
            observation=observation,
            pointing=pointing,
            pair_number=pair_number,
            filters=filters,
            dither_number=dither_number,
            target=target,
            start=SIMULATED_START + number * period + pointing.years_later * JULIAN_YEAR,
        )
        for number, ((observation, pointing), (pair_number, filters), (dither_number, target)) in enumerate(steps)
    ]


def _plan_exposure(settings: SimulationSettings, together: _ExposureGroup, detector: str) -> PlannedExposure:
    place = (together.observation, together.pair_number, together.dither_number)
    ra_error, dec_error = settings.pointing_error_mas * _generator(settings.seed, *place).standard_normal(2)
    visit_id = f"{PROGRAM}{together.observation:03d}001"
    visit_group, parallel_sequence, activity = f"{together.pair_number + 1:02d}", "1", "01"
    exposure_number = f"{together.dither_number:05d}"
    is_long = is_long_wavelength_detector(detector)
    band = together.filters.long if is_long else together.filters.short
    shift, rotation = _placement_error(settings, detector)
    filter_name, pupil = wheels_of(band)
    return PlannedExposure(
        name=f"jw{visit_id}_{visit_group}{parallel_sequence}{activity}_{exposure_number}_{detector.lower()}",
        program=PROGRAM,
        observation=visit_id[5:8],
        visit=visit_id[8:],
        visit_group=visit_group,
        parallel_sequence=parallel_sequence,
        activity=activity,
        exposure=exposure_number,
        detector=detector,
        filter=filter_name,
        pupil=pupil,
        aperture=aperture_name(detector, settings.subarray),
        pointed_aperture=_pointed_aperture(settings),
        subarray=settings.subarray,
        start=together.start.isoformat(timespec="milliseconds"),
        v2=together.target[0],
        v3=together.target[1],
        ra=together.pointing.ra,
        dec=together.pointing.dec,
        roll=together.pointing.position_angle,
        ra_error_mas=float(ra_error),
        dec_error_mas=float(dec_error),
        roll_error_arcsec=settings.roll_error_arcsec * _standard_normals(settings, 1, _ROLL, together.observation)[0],
        va_scale=1 - settings.aberration,
        placement_mas=shift,
        placement_rotation_arcsec=rotation,
        filter_offset_mas=_filter_offset(settings, detector, band),
        seed=int(_generator(settings.seed, *place, *detector.encode()).integers(2**63)),
    )


def _placement_error(settings: SimulationSettings, detector: str) -> tuple[tuple[float, float], float]:
    """Shift (V2, V3) in mas and rotation in arcsec of a detector."""
    v2, v3, turn = (settings.placement_error_mas * one for one in _standard_normals(settings, 3, _PLACEMENT, detector))
    return (v2, v3), float(np.degrees(turn / 1000 / _PLACEMENT_LEVER_ARCSEC) * 3600)


def _filter_offset(settings: SimulationSettings, detector: str, band: str) -> tuple[float, float]:
    v2, v3 = _standard_normals(settings, 2, _FILTER_OFFSET, detector, band)
    return settings.filter_offset_mas * v2, settings.filter_offset_mas * v3


def _standard_normals(settings: SimulationSettings, number: int, *key: int | str) -> list[float]:
    """Draw numbers that exposures share; no observation has the number 0, so they differ from those of exposures."""
    words = [one if isinstance(one, int) else crc32(one.encode()) for one in key]
    return [float(one) for one in _generator(settings.seed, 0, *words).standard_normal(number)]


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _pointed_aperture(settings: SimulationSettings) -> str:
    modules = {detector[3] for detector in settings.detectors}
    if len(modules) == 2:
        return "NRCALL_FULL"
    return aperture_name(f"NRC{modules.pop()}LONG", settings.subarray)


def _check(settings: SimulationSettings) -> None:
    if len(set(settings.detectors)) < len(settings.detectors):
        raise ValueError(f"simulation.detectors {settings.detectors} names a detector twice; name each once")
    module_a = [detector for detector in settings.detectors if detector.startswith("NRCA")]
    if settings.subarray != "FULL" and module_a:
        raise ValueError(
            f"simulation.subarray {settings.subarray} exists only on module B, but simulation.detectors names"
            f" {', '.join(module_a)}; use subarray FULL or detectors of module B"
        )
    if len(settings.pointings) > _MOST_OBSERVATIONS or len(settings.filter_pairs) >= _MOST_FILTER_PAIRS:
        raise ValueError(
            f"simulation has {len(settings.pointings)} pointings and {len(settings.filter_pairs)} filter pairs; JWST's"
            f" file names allow {_MOST_OBSERVATIONS} and {_MOST_FILTER_PAIRS - 1}"
        )
    short, long = (
        {name for name, band in PASSBANDS.items() if (band.pivot_um < DICHROIC_UM) is is_short}
        for is_short in (True, False)
    )
    for pair in settings.filter_pairs:
        for channel, name, wheel in (("short", pair.short, short), ("long", pair.long, long)):
            if name not in wheel:
                raise ValueError(
                    f"simulation.filter_pairs: {channel} filter {name} is not in the {channel}-wavelength channel,"
                    f" which has {', '.join(sorted(wheel))}"
                )
