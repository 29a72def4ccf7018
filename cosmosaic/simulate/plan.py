"""What a synthetic survey observes: one record per frame, made from the settings alone."""

from cosmosaic.records import Record


class PlannedFrame(Record):
    """One exposure of one detector that is to be simulated.

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
    subarray: str
    start: str
    """UTC, ISO 8601."""
    v2: float
    v3: float
    """Reference point of the attitude in arcsec."""
    ra: float
    dec: float
    roll: float
    """Nominal attitude in degrees: what the header says."""
    ra_error_mas: float
    dec_error_mas: float
    """True minus nominal direction on the sky (the first times cos dec) in milliarcseconds."""
    seed: int
    """Seed of every random draw of this frame."""
