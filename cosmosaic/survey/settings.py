"""The settings a user writes: one model for survey file, environment, command line and UI form."""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cosmosaic.nircam import DETECTOR_PATTERN, FILTERS, band_name, detector_name, wavelength_um


def _named_as_astronomers_do(value: Any) -> Any:
    """Return the astronomers' name of a filter, also behind a detector's name."""
    if not isinstance(value, str):
        return value
    detector, underscore, name = value.rpartition("_")
    return f"{detector.upper()}{underscore}{band_name(name)}"


def _as_filter(value: Any) -> Any:
    """Return the astronomers' name of a filter.

    Raises
    ------
    ValueError
        NIRCam has no such filter.
    """
    name = _named_as_astronomers_do(value)
    if isinstance(name, str) and name not in FILTERS:
        close = get_close_matches(name, FILTERS, 1)
        raise ValueError(
            f"NIRCam has no filter {value!r}{f', did you mean {close[0]}?' if close else ''}; {_ALL_FILTERS}"
        )
    return name


def _as_detector(value: Any) -> Any:
    """Check the name of a detector.

    Raises
    ------
    ValueError
        NIRCam has no such detector.
    """
    if isinstance(value, str) and not re.fullmatch(DETECTOR_PATTERN, value):
        raise ValueError(f"NIRCam has no detector {value!r}; its detectors are NRCA1 to NRCA4, NRCALONG, and so for B")
    return value


def _as_detector_filter(value: Any) -> Any:
    """Return the astronomers' name of a filter, also behind a detector's name, of which STPSF's are known as well.

    Raises
    ------
    ValueError
        NIRCam has no such detector or filter.
    """
    if not isinstance(value, str) or "_" not in value:
        return _as_filter(value)
    detector, _, name = value.upper().partition("_")
    return f"{_as_detector(detector_name(detector))}_{_as_filter(name)}"


def _as_image_name(name: str) -> str:
    """Check the name of another telescope's filter.

    Raises
    ------
    ValueError
        NIRCam has a filter of this name.
    """
    if name in FILTERS:
        raise ValueError(f"{name} is a filter of NIRCam; give the other telescope's filter another name, e.g. {name}_B")
    return name


_ALL_FILTERS = f"its filters are {', '.join(FILTERS)}"
FilterName = Annotated[str, BeforeValidator(_as_filter), Field(pattern=r"^F\d{3}[WMN]2?$")]
"""F150W, or F470N, which may be written F444W-F470N or, as in MAST, f470n-f444w."""
DetectorName = Annotated[str, BeforeValidator(_as_detector), Field(pattern=f"^{DETECTOR_PATTERN}$")]
PixelMethod = Literal[
    "median",
    "local",
    "global",
    "match",
    "global+match",
    "local-per-detector",
    "global-per-detector",
    "match-per-detector",
    "global+match-per-detector",
]
"""Sky methods that need pixels."""
CellMethod = Literal["none", "pedestal", "overlap", "overlap-planes", "surface", "user"]
"""Sky methods that need no pixels, at most the means of cells."""
SkyMethod = Literal[CellMethod, PixelMethod, "auto"]
SkyZero = Literal["faintest", "pedestal", "table"]
"""Choices of the zero point of a field without empty sky."""
FlickerCorrection = Literal["none", "jwst", "fast"]
CalibrationEngine = Literal["fused", "jwst"]
ImageName = Annotated[str, AfterValidator(_as_image_name), Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=20)]
"""F814W: the name of a filter of another telescope, which begins the names of its columns."""
DetectorPsfName = Annotated[
    str, BeforeValidator(_as_detector_filter), Field(pattern=rf"^({DETECTOR_PATTERN}_)?F\d{{3}}[WMN]2?$")
]
"""F150W, or NRCA1_F150W."""
WispTemplate = Annotated[str, BeforeValidator(_named_as_astronomers_do), Field(pattern=r"^NRC[AB][34]_F\d{3}[WMN]2?$")]


def _number_fields(schema: dict[str, Any]) -> None:
    """Number the fields, so that a form keeps their order even if a database loses it."""
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values cannot change once they are validated."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, json_schema_extra=_number_fields
    )


class Pointing(Settings):
    """A pointing of the telescope."""

    ra: float = Field(ge=0, lt=360)
    """Right ascension of the module's reference point in degrees, ICRS."""
    dec: float = Field(ge=-90, le=90)
    """Declination in degrees, ICRS."""
    position_angle: float = Field(default=20.0, ge=0, lt=360)
    """Position angle of the telescope's V3 axis in degrees, east of north."""
    years_later: float = Field(default=0.0, ge=0, le=20)
    """Years from the survey's start to this observation; stars move meanwhile."""


class FilterPair(Settings):
    """A short- and a long-wavelength filter, observed together through NIRCam's dichroic."""

    short: FilterName
    """Short-wavelength filter, e.g. F115W."""
    long: FilterName
    """Long-wavelength filter, e.g. F277W."""


class SimulationSettings(Settings):
    """The synthetic survey, made when no raw exposures are given."""

    seed: int = Field(default=20220830, ge=0)
    """Seed of every random draw: the same settings make the same exposures, byte for byte."""
    level: Literal["uncal", "cal"] = "uncal"
    """Raw ramps (uncal) or calibrated exposures (cal); large sets of the latter are much faster to make."""
    pointings: tuple[Pointing, ...] = Field(default=(Pointing(ra=150.1163213, dec=2.200973097),), min_length=1)
    """Pointings of the telescope; every filter pair and dither is observed at each."""
    dithers_arcsec: tuple[tuple[float, float], ...] = Field(
        default=((-4.1, -3.2), (0.4, 0.3), (3.9, 3.1)), min_length=1
    )
    """Two numbers each: offsets (x, y) in arcsec along the ideal axes of the pointed aperture, one exposure each."""
    filter_pairs: tuple[FilterPair, ...] = Field(
        default=(FilterPair(short="F115W", long="F277W"), FilterPair(short="F150W", long="F444W")), min_length=1
    )
    """Pairs of filters, in the order of observation."""
    detectors: tuple[DetectorName, ...] = Field(default=("NRCB1", "NRCB2", "NRCBLONG"), min_length=1)
    """Detectors that are read out."""
    subarray: Literal["FULL", "SUB640", "SUB320", "SUB160"] = "SUB640"
    """Part of each detector that is read out; only module B has the subarrays."""
    groups: int = Field(default=6, ge=3, le=20)
    """Groups of the ramp."""
    readout_pattern: Literal["RAPID", "BRIGHT1", "SHALLOW4", "MEDIUM8"] = "SHALLOW4"
    """NIRCam readout pattern: how many of the detector's frames make a group."""
    catalog: str | None = None
    """URL of a source catalogue (.csv, .ecsv, .fits or .parquet) to observe; by default, sources are drawn."""
    image: str | None = None
    """URL of a FITS image of the sky (MJy/sr, with an undistorted WCS), used alone or beneath the sources."""
    galaxies_per_arcmin2: float = Field(default=260.0, ge=0, le=5000)
    """Surface density of drawn galaxies to AB magnitude 28."""
    stars_per_arcmin2: float = Field(default=40.0, ge=0, le=5000)
    """Surface density of drawn stars, magnitude 19 to 26; more than in a deep field, because tests need them."""
    sky_mjy_sr: float = Field(default=0.25, ge=0, le=10)
    """Surface brightness of the sky in MJy/sr, with a mild dependence on wavelength, like zodiacal light."""
    pedestal_rms: float = Field(default=0.02, ge=0, le=10)
    """Rms over detectors and exposures of the additive pedestal in MJy/sr."""
    flicker_noise: bool = True
    """Add 1/f noise of the readout electronics."""
    wisp_mjy_sr: float = Field(default=0.0, ge=0, le=10)
    """Mean peak brightness in MJy/sr of the wisps on detectors A3, A4, B3 and B4."""
    cosmic_rays_per_s_cm2: float = Field(default=5.0, ge=0, le=100)
    """Rate of cosmic-ray hits per second and square centimetre of detector."""
    snowballs_per_s: float = Field(default=0.0, ge=0, le=100)
    """Snowballs (large, round cosmic-ray events) per second on a whole detector, in raw ramps; in flight about 0.05."""
    pointing_error_mas: float = Field(default=3.0, ge=0, le=1000)
    """Rms error per axis of the pointing of each exposure group, in mas, which its headers do not include."""
    roll_error_arcsec: float = Field(default=2.0, ge=0, le=600)
    """Rms error of each visit's roll about its target, in arcsec, which the headers do not include."""
    aberration: float = Field(default=5e-5, ge=-2e-4, le=2e-4)
    """Velocity aberration, 1 - VA_SCALE: separations on the sky are smaller by this fraction than those that the
    telescope sees. JWST's is within 1e-4 of zero and changes over the year."""
    placement_error_mas: float = Field(default=2.0, ge=0, le=1000)
    """Rms error per axis of each detector's position in the focal plane, in mas, the same in all exposures."""
    filter_offset_mas: float = Field(default=1.0, ge=0, le=1000)
    """Rms offset per axis of each filter on each detector, in mas, which the reference files do not include."""
    persistence_dn_s: float = Field(default=0.0, ge=0, le=100)
    """Persistence in DN/s of a filled pixel, 1000 s after the end of the exposure."""
    proper_motion_mas_yr: float = Field(default=3.0, ge=0, le=1000)
    """Rms proper motion per axis of drawn stars, in mas a year."""
    reference_epoch: float = Field(default=2016.0, ge=1950, le=2100)
    """Epoch, as a Julian year, of the reference catalogue that is written beside the truth."""
    reference_error_mas: float = Field(default=0.5, ge=0, le=1000)
    """Rms error per axis of the positions in that catalogue at its epoch, in mas."""

    @model_validator(mode="after")
    def _snowballs_in_ramps(self) -> Self:
        if self.snowballs_per_s and self.level == "cal":
            raise ValueError(
                "simulation.snowballs_per_s needs simulation.level uncal: what snowballs leave in calibrated exposures"
                " depends on Stage 1"
            )
        return self


class ReferenceSettings(Settings):
    """Calibration reference files."""

    crds_path: str | None = None
    """CRDS cache; by default, CRDS_PATH of the environment (a synthetic survey has its own)."""
    crds_context: str | None = Field(default=None, pattern=r"^jwst_\w+\.pmap$")
    """CRDS context; by default, CRDS_CONTEXT of the environment, or else the server's operational context."""
    crds_server_url: str | None = None
    """CRDS server; by default, CRDS_SERVER_URL of the environment."""
    gain_maps: dict[DetectorName, str] = Field(default_factory=dict)
    """Your own gain maps by detector (URL of a FITS reference file), used instead of those of CRDS."""


class ExposureSettings(Settings):
    """Stage 1 and 2, one exposure at a time."""

    engine: CalibrationEngine = "fused"
    """Software that turns raw ramps into count rates. fused: this project's compiled functions, with the results of the
    jwst package at a fraction of the cost; rare modes are left to the package. jwst: the package's own steps."""
    verify: int | None = Field(default=None, ge=0)
    """Number of exposures, drawn at random in each run, that both engines calibrate and whose planes are compared; by
    default, one if fused was tested with another version of the jwst package than the one installed, else none."""
    flicker_noise: FlickerCorrection = "fast"
    """Correction of 1/f noise in the count rate, or in exposures supplied as cal: fast: means of rows and columns
    outside sources; jwst: the package's clean_flicker_noise step, which removes light from extended galaxies; none.
    Exposures whose header says that it was done (S_CLNFNS) are left unchanged."""
    jump_rejection_sigma: float = Field(default=4.0, gt=0, le=100)
    """Threshold of the jump step, which finds cosmic rays, in sigma."""
    expand_large_events: bool = False
    """Flag the halos of snowballs (large cosmic-ray events) as the jwst package does; off by default, because it makes
    pixels around some cores bright, loses groups of saturated stars and multiplies the cost of Stage 1."""
    publish_rates: bool = False
    """Publish the count rate of each raw ramp (_rate.fits, without 1/f correction) beside its calibrated exposure;
    otherwise it is written nowhere. A change calibrates all ramps again."""
    persistence: bool = False
    """Flag pixels in which exposures that the same detector took up to two hours before, in any filter, are expected to
    persist."""
    persistence_dn_s: float = Field(default=0.15, gt=0, le=100)
    """Expected persistence in DN/s of a pixel that was filled, 1000 s after the end of the exposure; it falls as the
    inverse of the time."""
    flux_scale: Literal["none", "measured"] = "none"
    """Flux scale of the detectors. measured: in each filter, detectors on which the same stars are significantly
    fainter or brighter are brought onto the mean of those that share stars; needs align.enabled and align.method
    network, which find the stars. none: as calibrated; the scales are only reported."""


class AlignSettings(Settings):
    """Relative and absolute astrometry."""

    enabled: bool = False
    """Align the exposures with each other; off by default, because corrections from few stars blur good pointings."""
    method: Literal["network", "tweakreg"] = "tweakreg"
    """network: one solution for pointings, detectors and filters from stars shared by exposures of all filters;
    tweakreg: the jwst package's step, filter by filter."""
    aberration: bool = True
    """Correct velocity aberration about a point that all detectors of an exposure group share, from the header alone:
    jwst leaves detectors offset from each other by up to 13 mas, and modules by up to 25. Exposures that were corrected
    before stay as they are."""
    snr_threshold: float = Field(default=10.0, gt=0)
    """Detection threshold for alignment stars, in sigma."""
    minimum_objects: int = Field(default=10, ge=3)
    """Minimum number of matched stars for a correction (tweakreg)."""
    tolerance_arcsec: float = Field(default=0.3, gt=0, le=10)
    """Maximum distance between a star and its match (tweakreg)."""
    fit: Literal["shift", "rshift", "rscale", "general"] = "shift"
    """Model that tweakreg fits: shift: offsets; rshift: offsets and rotation; rscale: scale as well; general: any
    linear map."""
    reference_catalog: str | None = None
    """Absolute reference: GAIADR3 or another catalogue known to jwst, or a file with columns RA and DEC in degrees.
    Exposures added later are aligned with the stars of the exposures already aligned. The network needs a file, and
    uses its errors, proper motions and epochs if present."""

    @property
    def is_network(self) -> bool:
        """Whether the exposures of all filters are aligned in one solution, by the stars found in each."""
        return self.enabled and self.method == "network"

    @model_validator(mode="after")
    def _file_for_network(self) -> Self:
        if self.method == "network" and self.reference_catalog and "." not in self.reference_catalog:
            raise ValueError(
                f"align.method network takes a file as align.reference_catalog, not {self.reference_catalog}; save that"
                " catalogue as a table, or use align.method tweakreg"
            )
        return self


class SkyTreatment(Settings):
    """The sky settings that affect an exposure as it enters the mosaic."""

    method: str
    """Method by which the level was measured."""
    subtract: bool
    """Whether the level is subtracted, or only recorded."""
    trim_pixels: int
    """Width in pixels of the border that is not used."""


class SkySettings(Settings):
    """The sky background of each exposure."""

    method: SkyMethod = "overlap"
    """overlap: least squares of overlaps and pedestals, a level for each exposure; overlap-planes: a plane as well;
    surface: a smooth background of the whole mosaic as well; pedestal: mode outside sources; median: sigma-clipped
    median; user: levels from your table; auto: overlap, pedestal or median, whichever the verdict ranks first; none:
    the sky stays in. The other methods are those of jwst's skymatch, with one value for an exposure group or, if the
    name says so, one for each detector."""
    levels: str | None = None
    """Table of levels for the method user and for the zero table (URL of an .ecsv or .csv file): columns exposure and
    level in MJy/sr."""
    zero: SkyZero = "faintest"
    """Zero point of a field without empty sky, which cannot be measured from its exposures. faintest: the faintest
    place of the field is zero; pedestal: the modes of the exposures are zero, whatever fills them; table: your table
    of levels, which need not have all exposures, sets the zero point of every field."""
    wisps: bool = True
    """Fit and subtract the wisps of detectors A3, A4, B3 and B4: with your template or, where a detector has three or
    more exposures in a filter, with one made from them."""
    wisp_templates: dict[WispTemplate, str] = Field(default_factory=dict)
    """Your wisp templates (URL of a FITS image) by detector and filter, e.g. NRCB4_F150W."""
    source_masks: dict[FilterName, str] = Field(default_factory=dict)
    """Source masks by band for a second pass (URL of a FITS image with a WCS, 0 on the sky): a copy of an earlier run's
    _segm.fits, or your own. Levels are measured on the pixels outside the masks."""
    slow_stripes: bool = True
    """Subtract stripes along rows that vary too slowly for the 1/f correction, found by comparing exposures."""
    trim_pixels: int = Field(default=0, ge=0, le=200)
    """Width in pixels of the unused border of each detector."""
    subtract: bool = True
    """Subtract the level from the _crf files; if off, it is recorded in them and subtracted when the mosaic is made."""

    @property
    def treatment(self) -> SkyTreatment:
        """The settings that affect an exposure as it enters the mosaic."""
        return SkyTreatment(method=self.method, subtract=self.subtract, trim_pixels=self.trim_pixels)

    @property
    def needs_pixels(self) -> bool:
        """Whether the method needs the exposures' pixels, not only the means of cells."""
        return self.method == "auto" or self.method in get_args(PixelMethod)

    @model_validator(mode="after")
    def _levels_for_user(self) -> Self:
        if (self.method == "user" or self.zero == "table") != (self.levels is not None):
            raise ValueError("give sky.levels (a table) with sky.method = 'user' or sky.zero = 'table', and only then")
        return self


class OutlierSettings(Settings):
    """Detection of cosmic rays that Stage 1 missed, by comparing exposures."""

    enabled: bool = True
    """Compare the exposures. Where only two overlap, the fainter one counts as the sky; single exposures are not
    searched. The jwst engine searches only filters with three or more exposures."""
    snr: tuple[float, float] = (5.0, 4.0)
    """Two numbers: thresholds in sigma of the first and second pass."""
    scale: tuple[float, float] = (3.0, 2.0)
    """Two numbers: tolerated multiples of the local gradient in the first and second pass; jwst's defaults, 1.2 and
    0.7, mistake the undersampled cores of stars for cosmic rays."""
    weight_threshold: float = Field(default=0.7, gt=0, le=1)
    """Pixels whose weight is below this fraction of the mean do not enter the median."""


class GridSettings(Settings):
    """The tangent-plane pixel grid that all mosaics share."""

    tangent_ra: float | None = Field(default=None, ge=0, lt=360)
    """Right ascension of the tangent point in degrees, ICRS; by default, the exposures' centre rounded to 0.01 deg."""
    tangent_dec: float | None = Field(default=None, ge=-90, le=90)
    """Declination of the tangent point in degrees, ICRS."""
    rotation: float = Field(default=0.0, ge=-180, le=360)
    """Position angle of the grid's +y axis in degrees, east of north."""
    pixel_scale_mas: float = Field(default=30.0, ge=5, le=1000)
    """Pixel scale in milliarcseconds."""
    long_wavelength_factor: int = Field(default=1, ge=1, le=8)
    """Long-wavelength mosaics have pixels larger by this factor, which nest exactly: 2 makes 60 mas from 30."""
    like: str | None = None
    """Image whose pixel grid is used (URL of a FITS file, e.g. an HST mosaic): tangent point, rotation, pixel scale and
    window are taken from its header instead of the settings above. Exposures outside of it are not used."""
    largest_mpix: float = Field(default=2500.0, gt=0)
    """Largest mosaic allowed, in megapixels: one exposure with a wrong pointing would need terabytes."""
    tiles: str | None = None
    """Table of the tiles to make (URL of an .ecsv or .csv file): columns name; crpix_x and crpix_y, the 0-based pixel
    of the tangent point (CRPIX of a FITS header minus 1); nx and ny, size in pixels. Each becomes a mosaic with its
    own catalogue; exposures outside all tiles are not used. By default, one mosaic of the whole survey is made."""
    whole: bool = False
    """Where tiles are named, make the mosaic of the whole survey as well."""

    @model_validator(mode="after")
    def _tangent_point_whole(self) -> Self:
        if self.like is not None:
            given = sorted({"tangent_ra", "tangent_dec", "rotation", "pixel_scale_mas"} & self._changed())
            if given:
                raise ValueError(f"give either grid.like or {', '.join(given)}: the image defines them")
            return self
        if (self.tangent_ra is None) != (self.tangent_dec is None):
            raise ValueError("give tangent_ra and tangent_dec together, or neither")
        if self.tiles is not None and self.tangent_ra is None:
            raise ValueError(
                "tiles are positioned relative to the tangent point: give tangent_ra and tangent_dec as well"
            )
        return self

    def _changed(self) -> set[str]:
        # A form sends every setting, including those left unchanged.
        fields = type(self).model_fields
        return {name for name in fields if getattr(self, name) != fields[name].default}


WeightType = Literal["ivm-sky", "ivm", "exptime"]


class DrizzleSettings(Settings):
    """Combination of the exposures into a mosaic."""

    kernel: Literal["square", "point", "turbo", "gaussian", "lanczos3"] = "square"
    """Drizzle kernel."""
    pixfrac: float = Field(default=1.0, ge=0, le=1)
    """Fraction by which input pixels are shrunk before they are dropped onto the grid."""
    weight_type: WeightType = "ivm-sky"
    """Weight of a pixel: inverse variance of sky and read noise (ivm-sky), of read noise alone as in jwst (ivm), or
    exposure time (exptime). The engine "jwst" knows the last two."""
    errors: Literal["jwst", "propagated", "none"] = "jwst"
    """jwst: ERR as in the jwst package, correct for sums over many pixels; propagated: the scatter of a single pixel
    (drizzle's data2, squared weights), too small for sums because neighbouring pixels are correlated; none: only
    science and weight, and no catalogue."""


class OtherImage(Settings):
    """An image of another telescope that the catalogue measures, on the survey's pixel grid."""

    image: str
    """URL of the FITS image (extension SCI, or the first image), on the survey's grid or in whole multiples of its
    pixels; `grid.like` makes the survey on the image's grid."""
    error: str | None = None
    """URL of its standard errors, in the same unit (extension ERR, or the first image)."""
    weight: str | None = None
    """URL of its inverse variances, in place of errors (extension WHT, or the first image)."""
    psf: str
    """URL of its PSF (FITS image with odd sides and the keyword PIXSCALE in arcsec, oriented as the image)."""
    wavelength_um: float = Field(gt=0.05, lt=40)
    """Wavelength of the filter in micrometres."""
    zero_point_ab: float | None = None
    """AB magnitude of one unit of the image in a pixel; by default, by its BUNIT, or HST's PHOTFLAM and PHOTPLAM."""
    eazy_number: int | None = Field(default=None, ge=1)
    """Number of the filter in EAZY's FILTER.RES.latest; without it, EAZY's input leaves the filter out."""

    @property
    def files(self) -> dict[str, str]:
        """URLs of the files by their settings."""
        given = {"image": self.image, "error": self.error, "weight": self.weight, "psf": self.psf}
        return {setting: uri for setting, uri in given.items() if uri}

    @model_validator(mode="after")
    def _one_kind_of_error(self) -> Self:
        if (self.error is None) == (self.weight is None):
            raise ValueError("give error (standard errors) or weight (inverse variances), one of the two")
        return self


class CatalogSettings(Settings):
    """Detection and photometry of sources on the mosaics: one catalogue of all filters."""

    filters: tuple[FilterName, ...] = ()
    """Filters in whose sum sources are detected; by default, all. Fluxes are measured in every filter."""
    threshold_sigma: float = Field(default=4.0, gt=0, le=100)
    """Detection threshold in sigma of the sum of the filters, each smoothed by its PSF."""
    minimum_pixels: int = Field(default=3, ge=1)
    """Minimum number of connected pixels of a source."""
    deblend_contrast: float = Field(default=0.005, ge=0, le=1)
    """Fraction of the total flux above which a peak counts as a separate source."""
    background_box_arcsec: float = Field(default=6.0, gt=0)
    """Side in arcsec of the boxes in which the residual background is measured."""
    aperture_diameters_arcsec: tuple[float, ...] = Field(default=(0.2, 0.3, 0.5, 0.7, 1.0), min_length=1)
    """Diameters in arcsec of the circular apertures."""
    psfs: dict[FilterName, str] = Field(default_factory=dict)
    """PSFs of the mosaics by filter (URL of a FITS image with the keyword PIXSCALE in arcsec, oriented as the mosaics);
    by default, they are made from the stars of the field or, if these are too few, computed."""
    detector_psfs: dict[DetectorPsfName, str] = Field(default_factory=dict)
    """PSFs of the detectors by filter (F150W) or by detector and filter (NRCA1_F150W, which has precedence): URL of a
    file of STPSF, calc_psf or psf_grid, or of a FITS image with the keyword PIXSCALE in arcsec, the detector's pixel
    included, along the detector's axes. They are drizzled through the exposures of each mosaic. `psfs` has
    precedence."""
    images: dict[ImageName, OtherImage] = Field(default_factory=dict)
    """Images of other telescopes by the names of their filters, e.g. F814W, which are measured as further filters.
    Sources are detected in the survey's own filters."""
    match_to: str | None = None
    """Filter to whose PSF the others' images are matched for colours; by default, that with the widest PSF."""
    extinction_map: str | None = None
    """Map of the Milky Way's E(B-V), which each source is given: URL of a HEALPix map or of an image with a celestial
    WCS, as FITS. Fluxes are not corrected."""

    @property
    def of_measurement(self) -> "CatalogSettings":
        """The settings that decide what is measured; with another map, nothing is measured again."""
        return self.model_copy(update={"extinction_map": None})

    def detector_psf(self, detector: str, band: str) -> str | None:
        """Return the file of a detector's PSF in a filter, if there is one."""
        return self.detector_psfs.get(f"{detector}_{band}") or self.detector_psfs.get(band)

    def wavelength_um(self, band: str) -> float:
        """Return the wavelength in micrometres of a filter of the survey or of another image."""
        return self.images[band].wavelength_um if band in self.images else wavelength_um(band)

    @model_validator(mode="after")
    def _matched_to_a_filter(self) -> Self:
        if self.match_to is not None and self.match_to not in self.images:
            self.__dict__["match_to"] = _as_filter(self.match_to)
        return self

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, given: Any) -> Any:
        for old, new in RENAMED_OF_CATALOG.items():
            if isinstance(given, dict) and old in given:
                raise ValueError(f"catalog.{old} was replaced by catalog.{new}")
        return given


RENAMED_OF_CATALOG = {
    "aperture_radii_arcsec": "aperture_diameters_arcsec (twice the radii)",
    "smoothing_fwhm_arcsec": "the PSF of each filter; remove it",
}
"""Replacements of the catalogue's settings, by the name in earlier versions."""


class InjectionSettings(Settings):
    """Sources of known flux, put into the exposures to measure the catalogue's completeness and bias."""

    with_products: bool = False
    """Inject in runs of the survey too, after its products; by default, only by `cosmosaic inject`."""
    sources: int = Field(default=600, ge=10, le=100_000)
    """Number of sources, over all windows that have a catalogue. They are injected in as many rounds as their density
    needs, and each round repeats the reduction from the exposures on."""
    per_arcmin2: float = Field(default=60.0, gt=0, le=200)
    """Largest surface density of the injected sources of a round, so that they do not crowd the field."""
    galaxies: float = Field(default=0.5, ge=0, le=1)
    """Fraction of galaxies among the sources; the others are stars."""
    seed: int = Field(default=1, ge=0)
    """Seed of positions, fluxes, shapes and noise: the same seed injects the same sources."""


class ResourceSettings(Settings):
    """Limits on the machine's resources."""

    runner: Literal["local", "dask"] = "local"
    """Place where the steps run: this machine, or the workers of a Dask cluster, which share only the store."""
    scheduler: str | None = Field(default=None, pattern=r"^(tcp|tls|ucx|ws|wss)://.+$")
    """Address of the Dask scheduler, e.g. tcp://10.0.0.5:8786; by default, a cluster is started on this machine."""
    processes: int | None = Field(default=None, ge=1, le=1024)
    """Number of child processes; by default, one per core, or fewer if memory is short. Each worker of a Dask cluster
    has one."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory for all child processes together; by default, three quarters of the machine's."""
    tile_pixels: int | None = Field(default=None, ge=64, le=16384)
    """Side of the tiles in which mosaics are made; by default, 1024, or less if memory is short, or 4096 if one such
    tile holds the whole mosaic. Pixel values do not depend on it."""
    time_limit_s: float = Field(default=7200.0, gt=0)
    """Time limit of a step in seconds; a step that takes longer is killed and fails."""
    cache_gb: float | None = Field(default=None, gt=0)
    """Size of the cache after a run, in GB: results that take the least CPU time for their size are removed, and made
    again when they are needed. By default, all are kept."""
    scratch: str | None = None
    """Folder for temporary files; by default, the system's."""


class CleanupSettings(Settings):
    """Removal of unused files from the cache (`cosmosaic cleanup`)."""

    older_than_days: float = Field(default=30.0, ge=0)
    """Remove files that no run has used for this many days; those of the last run of a survey are kept."""
    dry_run: bool = True
    """Only list the files that would be removed."""


class CostSettings(Settings):
    """What the work costs you, for the end report and the run table; without a price, no money is told."""

    per_cpu_hour: float | None = Field(default=None, ge=0)
    """Price of an hour of one core."""
    per_gb_month: float | None = Field(default=None, ge=0)
    """Price of keeping a gigabyte (1e9 bytes) for a month."""
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """Currency of the prices, by its three letters."""


RENAMED = {"solve_anew": "resolve"}
"""New names of the survey's settings, by the name in earlier versions."""


def renamed(old: str, new: str) -> str:
    """Return the error for a setting that was renamed."""
    return f"{old} is now called {new}; use the new name"


class Survey(Settings):
    """All settings of a run. Without arguments: a synthetic survey under ``demo/``."""

    name: str = Field(default="cosmos-demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")
    """Name of the survey; products begin with it."""
    store: str = Field(default="demo", min_length=1)
    """Folder or URL (s3://bucket/prefix) under which raw/, products/ and cache/ lie."""
    raw: str | None = Field(default=None, min_length=1)
    """Folder or URL of the raw exposures, at any depth; by default, a synthetic survey is made under `<store>/raw`."""
    products: str | None = None
    """Folder or URL of the products; by default, `<store>/products`."""
    cache: str | None = None
    """Folder or URL of intermediate files, which may be deleted between runs; by default, `<store>/cache`."""
    filters: tuple[FilterName, ...] = ()
    """Filters to process; by default, all observed filters."""
    exclude: dict[str, str] = Field(default_factory=dict)
    """Exposures to leave out: a reason for each name, which may be a shell pattern, e.g. jw*_nrca3."""
    regions: dict[str, str] = Field(default_factory=dict)
    """Areas to mask (URL of a ds9 region file) by the name of the exposure, which may be a shell pattern, * for all.
    Regions are on the sky, or in image pixels of the exposure."""
    association: str | None = None
    """Association file (JSON) whose members are combined; by default, all exposures, in one association per filter."""
    references: ReferenceSettings = ReferenceSettings()
    exposures: ExposureSettings = ExposureSettings()
    align: AlignSettings = AlignSettings()
    sky: SkySettings = SkySettings()
    resolve: bool = False
    """Solve the sky levels and the alignment of all exposures again, and report how far they moved. If off, exposures
    that are already solved keep their levels, stripes and WCS, and new ones are fitted to them, so that a new exposure
    affects only the tiles it touches."""
    engine: Literal["tiles", "jwst"] = "tiles"
    """Software that flags outliers and combines exposures. tiles: this project's engine; jwst: the package's steps."""
    outliers: OutlierSettings = OutlierSettings()
    grid: GridSettings = GridSettings()
    drizzle: DrizzleSettings = DrizzleSettings()
    catalog: CatalogSettings = CatalogSettings()
    injection: InjectionSettings = InjectionSettings()
    resources: ResourceSettings = ResourceSettings()
    cleanup: CleanupSettings = CleanupSettings()
    cost: CostSettings = CostSettings()
    simulation: SimulationSettings = SimulationSettings()

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, given: Any) -> Any:
        for old, new in RENAMED.items():
            if isinstance(given, dict) and old in given:
                raise ValueError(renamed(old, new))
        return given

    @property
    def is_synthetic(self) -> bool:
        """Whether the exposures are simulated, because no raw exposures are given."""
        return self.raw is None

    def url(self, part: Literal["raw", "products", "cache", "crds", "truth"]) -> str:
        """URL of one part of the store."""
        return getattr(self, part, None) or f"{self.store.rstrip('/')}/{part}"

    @model_validator(mode="after")
    def _simulation_only_without_raw(self) -> Self:
        # A form sends every setting, including those left unchanged.
        if self.raw is not None and self.simulation != SimulationSettings():
            raise ValueError("give either raw (existing exposures) or simulation (exposures to make), not both")
        return self

    @model_validator(mode="after")
    def _errors_for_injection(self) -> Self:
        if self.injection.with_products and self.drizzle.errors == "none":
            raise ValueError('injection.with_products tests the catalogue, which drizzle.errors = "none" leaves out')
        return self

    @model_validator(mode="after")
    def _stars_for_flux_scale(self) -> Self:
        if self.exposures.flux_scale == "measured" and not self.align.is_network:
            raise ValueError(
                'exposures.flux_scale = "measured" needs align.enabled = true and align.method = "network", which find'
                " the stars"
            )
        return self

    @model_validator(mode="after")
    def _errors_that_the_engine_knows(self) -> Self:
        if self.engine == "jwst" and self.drizzle.errors != "jwst":
            raise ValueError(f'drizzle.errors = "{self.drizzle.errors}" needs engine = "tiles"')
        if self.engine == "jwst" and self.drizzle.weight_type == "ivm-sky":
            raise ValueError(
                'drizzle.weight_type = "ivm-sky", the default, needs engine = "tiles"; the jwst package weights by '
                'read noise alone: set drizzle.weight_type = "ivm"'
            )
        return self
