"""The settings a user writes: one model for survey file, environment, command line and UI form."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

FilterName = Annotated[str, Field(pattern=r"^F\d{3}[WMN]2?$")]
BandName = Annotated[str, Field(pattern=r"^F\d{3}[WMN]2?(-[A-Z0-9]+)?$")]
"""A filter, with the pupil where it holds a second element: F150W or F444W-F470N."""
DetectorName = Annotated[str, Field(pattern=r"^NRC([AB][1-4]|[AB]LONG)$")]
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
"""Sky methods that look at pixels."""
CellMethod = Literal["none", "pedestal", "overlap", "overlap-planes", "surface", "user"]
"""Sky methods that look at means of cells alone, or at none."""
SkyMethod = Literal[CellMethod, PixelMethod, "auto"]
SkyZero = Literal["faintest", "pedestal", "table"]
"""What sets the absolute level of a field without empty sky."""
FlickerCorrection = Literal["none", "jwst", "fast"]
WispTemplate = Annotated[str, Field(pattern=r"^NRC[AB][34]_F\d{3}[WMN]2?$")]


def _number_fields(schema: dict[str, Any]) -> None:
    """Let a form keep the order of the fields, which a database may lose."""
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values do not change after they were checked."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, json_schema_extra=_number_fields
    )


class Pointing(Settings):
    """Where the telescope points."""

    ra: float = Field(ge=0, lt=360)
    """Right ascension of the module's reference point in degrees, ICRS."""
    dec: float = Field(ge=-90, le=90)
    """Declination in degrees, ICRS."""
    position_angle: float = Field(default=20.0, ge=0, lt=360)
    """Position angle of the telescope's V3 axis in degrees, east of north."""


class FilterPair(Settings):
    """A short- and a long-wavelength filter, observed together through NIRCam's dichroic."""

    short: FilterName
    """Short-wavelength filter, e.g. F115W."""
    long: FilterName
    """Long-wavelength filter, e.g. F277W."""


class SimulationSettings(Settings):
    """The synthetic survey that is made where no raw frames are named."""

    seed: int = Field(default=20220830, ge=0)
    """Seed of every random draw: the same settings make the same frames, byte for byte."""
    level: Literal["uncal", "cal"] = "uncal"
    """Raw ramps (uncal), or calibrated frames (cal), which are much faster to make in large sets."""
    pointings: tuple[Pointing, ...] = Field(default=(Pointing(ra=150.1163213, dec=2.200973097),), min_length=1)
    """Where the telescope points; every filter pair and dither is observed at each."""
    dithers_arcsec: tuple[tuple[float, float], ...] = Field(
        default=((-4.1, -3.2), (0.4, 0.3), (3.9, 3.1)), min_length=1
    )
    """Offsets (x, y) in arcsec along the ideal axes of the pointed aperture, one exposure each."""
    filter_pairs: tuple[FilterPair, ...] = Field(
        default=(FilterPair(short="F115W", long="F277W"), FilterPair(short="F150W", long="F444W")), min_length=1
    )
    """Filters, in the order they are observed in."""
    detectors: tuple[DetectorName, ...] = Field(default=("NRCB1", "NRCB2", "NRCBLONG"), min_length=1)
    """Detectors that are read out."""
    subarray: Literal["FULL", "SUB640", "SUB320", "SUB160"] = "SUB640"
    """Part of each detector that is read out; the subarrays exist on module B alone."""
    groups: int = Field(default=6, ge=3, le=20)
    """Groups of the ramp."""
    readout_pattern: Literal["RAPID", "BRIGHT1", "SHALLOW4", "MEDIUM8"] = "SHALLOW4"
    """NIRCam readout pattern: how many of the detector's frames make a group."""
    catalog: str | None = None
    """URL of a source catalogue (.csv, .ecsv, .fits or .parquet) to observe; left out, one is drawn."""
    image: str | None = None
    """URL of a FITS image with a WCS and without distortion (MJy/sr) that is the sky, alone or under the sources."""
    galaxies_per_arcmin2: float = Field(default=260.0, ge=0, le=5000)
    """Surface density of drawn galaxies to AB magnitude 28."""
    stars_per_arcmin2: float = Field(default=40.0, ge=0, le=5000)
    """Surface density of drawn stars, magnitude 19 to 26; a deep field has fewer, tests want them."""
    sky_mjy_sr: float = Field(default=0.25, ge=0, le=10)
    """Surface brightness of the sky in MJy/sr, scaled mildly with wavelength as the zodiacal light is."""
    pedestal_rms: float = Field(default=0.02, ge=0, le=10)
    """Rms over detectors and exposures of the additive pedestal in MJy/sr."""
    flicker_noise: bool = True
    """Add 1/f noise of the readout electronics."""
    wisp_mjy_sr: float = Field(default=0.0, ge=0, le=10)
    """Mean peak brightness in MJy/sr of the wisps on detectors A3, A4, B3 and B4."""
    cosmic_rays_per_s_cm2: float = Field(default=5.0, ge=0, le=100)
    """Rate of cosmic-ray hits per second and square centimetre of detector."""
    pointing_error_mas: float = Field(default=3.0, ge=0, le=1000)
    """Rms error per axis of each exposure's pointing, which the headers do not know of."""


class ReferenceSettings(Settings):
    """Calibration reference files."""

    crds_path: str | None = None
    """CRDS cache; left out, CRDS_PATH of the environment (a synthetic survey brings its own)."""
    crds_context: str | None = Field(default=None, pattern=r"^jwst_\w+\.pmap$")
    """CRDS context; left out, CRDS_CONTEXT of the environment, else the server's operational context."""
    crds_server_url: str | None = None
    """CRDS server; left out, CRDS_SERVER_URL of the environment."""
    gain_maps: dict[DetectorName, str] = Field(default_factory=dict)
    """Your own gain map per detector (URL of a FITS reference file), in place of CRDS's."""


class ExposureSettings(Settings):
    """Stage 1 and 2 of the jwst package, one exposure at a time."""

    flicker_noise: FlickerCorrection = "fast"
    """Correction of 1/f noise on the count rate: fast: means of rows and columns outside of sources; jwst: its
    clean_flicker_noise step, which takes light from extended galaxies; none. Frames that enter as cal, or were
    corrected before, are left as they are."""
    jump_rejection_sigma: float = Field(default=4.0, gt=0, le=100)
    """Threshold of the jump step for cosmic rays, in sigma."""
    expand_large_events: bool = False
    """Flag the halos of snowballs (large cosmic-ray events)."""


class AlignSettings(Settings):
    """Relative and absolute astrometry (jwst's tweakreg)."""

    enabled: bool = False
    """Shift the exposures onto each other; off, because corrections from few stars smear good pointings."""
    snr_threshold: float = Field(default=10.0, gt=0)
    """Detection threshold for alignment stars, in sigma."""
    minimum_objects: int = Field(default=10, ge=3)
    """Fewest matched stars that a correction may rest on."""
    tolerance_arcsec: float = Field(default=0.3, gt=0, le=10)
    """How far a star may lie from its match."""
    fit: Literal["shift", "rshift", "rscale", "general"] = "shift"
    """What is fitted: shift; with rotation; with scale; all of a linear map."""
    reference_catalog: str | None = None
    """Absolute reference: GAIADR3 or another name jwst knows, or a file with columns RA and DEC in degrees. Exposures
    that are added go onto the stars of those that were aligned to it."""


class SkySettings(Settings):
    """The sky background of each exposure."""

    method: SkyMethod = "overlap"
    """overlap: least squares of overlaps and pedestals, a level for each detector; overlap-planes: and a plane;
    surface: and a smooth background of the whole mosaic; pedestal: mode outside of sources; median: sigma-clipped
    median; user: levels from your table; auto: the one of overlap, pedestal and median that the verdict ranks first;
    none: leave the sky in; the others are jwst's skymatch, one value for all
    detectors of an exposure, or for each detector."""
    levels: str | None = None
    """Table of levels for the method user and for the zero table (URL of an .ecsv or .csv file): columns exposure and
    level in MJy/sr."""
    zero: SkyZero = "faintest"
    """What sets the absolute level of a field without empty sky, which no exposure of it can tell. faintest: its
    faintest place is zero; pedestal: the modes of the exposures are, whatever fills them; table: the levels of your
    table, which may lack exposures, set the zero of every field."""
    wisps: bool = True
    """Fit and subtract wisps, which detectors A3, A4, B3 and B4 have: with your template, or with one made of the
    survey's own exposures where a detector has three or more in a filter."""
    wisp_templates: dict[WispTemplate, str] = Field(default_factory=dict)
    """Your wisp templates (URL of a FITS image) by detector and filter, e.g. NRCB4_F150W."""
    source_masks: dict[BandName, str] = Field(default_factory=dict)
    """Masks of sources by band, for a second pass (URL of a FITS image with a WCS, 0 on the sky): a copy of an earlier
    run's _segm.fits, or your own. Levels are measured on the pixels outside of them."""
    slow_stripes: bool = True
    """Subtract stripes along rows that are too slow for the 1/f correction, found by comparison with the other
    exposures."""
    trim_pixels: int = Field(default=0, ge=0, le=200)
    """Width in pixels of the border of each detector that is not used."""
    subtract: bool = True
    """Take the level out of the crf frames; off, it is recorded there and taken out when the mosaic is made."""

    @property
    def needs_pixels(self) -> bool:
        """Whether the method looks at the exposures' pixels, not only at means of cells."""
        return self.method == "auto" or self.method in get_args(PixelMethod)

    @model_validator(mode="after")
    def _levels_for_user(self) -> Self:
        if (self.method == "user" or self.zero == "table") != (self.levels is not None):
            raise ValueError("give sky.levels (a table) with sky.method = 'user' or sky.zero = 'table', and only then")
        return self


class OutlierSettings(Settings):
    """Detection of cosmic rays that Stage 1 missed, by comparing exposures."""

    enabled: bool = True
    """Compare the exposures. Of two at a place the fainter counts as the sky; a single one is not searched. The jwst
    engine searches where a filter has three exposures or more."""
    snr: tuple[float, float] = (5.0, 4.0)
    """Thresholds in sigma of the first and second pass."""
    scale: tuple[float, float] = (3.0, 2.0)
    """Multiples of the local gradient that are tolerated in the first and second pass; jwst's 1.2 and 0.7 take the
    undersampled cores of stars for cosmic rays."""
    weight_threshold: float = Field(default=0.7, gt=0, le=1)
    """Pixels whose weight is below this fraction of the mean are left out of the median."""


class GridSettings(Settings):
    """The tangent-plane pixel grid that all mosaics share."""

    tangent_ra: float | None = Field(default=None, ge=0, lt=360)
    """Right ascension of the tangent point in degrees, ICRS; left out, the middle of the frames to 0.01 deg."""
    tangent_dec: float | None = Field(default=None, ge=-90, le=90)
    """Declination of the tangent point in degrees, ICRS."""
    rotation: float = Field(default=0.0, ge=-180, le=360)
    """Position angle of the grid's +y axis in degrees, east of north."""
    pixel_scale_mas: float = Field(default=30.0, ge=5, le=1000)
    """Pixel scale in milliarcseconds."""
    long_wavelength_factor: int = Field(default=1, ge=1, le=8)
    """Pixels of long-wavelength mosaics are this many times larger, and nest exactly: 2 makes 60 mas of 30."""
    largest_mpix: float = Field(default=2500.0, gt=0)
    """Refuse a mosaic of more megapixels: one frame with a wrong pointing would ask for terabytes."""
    tiles: str | None = None
    """Table of the tiles to make (URL of an .ecsv or .csv file): columns name; crpix_x and crpix_y, the 0-based pixel
    of the tangent point (CRPIX of a FITS header minus 1); nx and ny, size in pixels. Each becomes a mosaic with a
    catalogue of its own, beside the mosaic of all; frames that reach none are left out. Left out, one mosaic of all."""

    @model_validator(mode="after")
    def _tangent_point_whole(self) -> Self:
        if (self.tangent_ra is None) != (self.tangent_dec is None):
            raise ValueError("give tangent_ra and tangent_dec together, or neither")
        if self.tiles is not None and self.tangent_ra is None:
            raise ValueError("tiles are counted from the tangent point: give tangent_ra and tangent_dec with them")
        return self


class DrizzleSettings(Settings):
    """Combination of the exposures into a mosaic."""

    kernel: Literal["square", "point", "turbo", "gaussian", "lanczos3"] = "square"
    """Drizzle kernel."""
    pixfrac: float = Field(default=1.0, ge=0, le=1)
    """Fraction by which input pixels are shrunk before they are dropped onto the grid."""
    weight_type: Literal["ivm", "exptime"] = "ivm"
    """Weight of a pixel: inverse read-noise variance, or exposure time."""
    errors: Literal["jwst", "propagated", "none"] = "jwst"
    """jwst: ERR as the jwst package has it, right for sums over many pixels; propagated: the scatter of a single pixel
    (drizzle's data2, squared weights), too small for sums because neighbours share light; none: science and weight
    alone, without a catalogue."""


class CatalogSettings(Settings):
    """Detection and photometry of sources on the mosaics."""

    threshold_sigma: float = Field(default=1.5, gt=0, le=100)
    """Detection threshold above the background of the smoothed image, in sigma of the error map per pixel."""
    minimum_pixels: int = Field(default=12, ge=1)
    """Fewest connected pixels of a source."""
    smoothing_fwhm_arcsec: float = Field(default=0.09, gt=0, le=5)
    """Width of the Gaussian that the image is smoothed with for detection."""
    deblend_contrast: float = Field(default=0.005, ge=0, le=1)
    """Fraction of the flux that a peak needs to become a source of its own."""
    background_box_arcsec: float = Field(default=6.0, gt=0)
    """Side of the boxes in which the remaining background is measured."""
    aperture_radii_arcsec: tuple[float, ...] = Field(default=(0.1, 0.15, 0.25, 0.35, 0.5), min_length=1)
    """Radii of the circular apertures."""


class ResourceSettings(Settings):
    """What the run may use of the machine."""

    runner: Literal["local", "dask"] = "local"
    """Who executes the steps: this machine, or the workers of a Dask cluster, which share the store alone."""
    scheduler: str | None = Field(default=None, pattern=r"^(tcp|tls|ucx|ws|wss)://.+$")
    """Address of the Dask scheduler, e.g. tcp://10.0.0.5:8786; left out, a cluster on this machine for this run."""
    processes: int | None = Field(default=None, ge=1, le=1024)
    """Child processes that calibrate and combine; left out, one per core as far as the memory reaches. Workers of a
    Dask cluster have one each."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory for all child processes together; left out, three quarters of the machine's."""
    tile_pixels: int | None = Field(default=None, ge=64, le=16384)
    """Side of the tiles that mosaics are made in; left out, 1024 as far as the memory reaches, or 4096 where one of
    these holds all. Pixels do not depend on it."""
    time_limit_s: float = Field(default=7200.0, gt=0)
    """A step that takes longer is killed and counts as failed."""
    scratch: str | None = None
    """Folder for temporary files; left out, the system's."""


class CleanupSettings(Settings):
    """What `flows/cleanup.py` removes from the cache."""

    older_than_days: float = Field(default=30.0, ge=0)
    """Remove what no run used in so many days; what the last run of a survey used stays."""
    dry_run: bool = True
    """List what would be removed, and remove nothing."""


class Survey(Settings):
    """Everything that decides what a run makes. Without arguments: a synthetic survey under ``demo/``."""

    name: str = Field(default="cosmos-demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")
    """Name of the survey; products begin with it."""
    store: str = Field(default="demo", min_length=1)
    """Folder or URL (s3://bucket/prefix) under which raw/, products/ and cache/ lie."""
    raw: str | None = Field(default=None, min_length=1)
    """Where the raw frames lie, any depth; left out, a synthetic survey is made under `<store>/raw`."""
    products: str | None = None
    """Where products go; left out, `<store>/products`."""
    cache: str | None = None
    """Where intermediates go, which may be deleted at any time; left out, `<store>/cache`."""
    filters: tuple[FilterName, ...] = ()
    """Filters to work on; left out, all that were observed."""
    association: str | None = None
    """Association file (JSON): only its members are combined. Left out, all frames are, one association per filter."""
    simulation: SimulationSettings = SimulationSettings()
    references: ReferenceSettings = ReferenceSettings()
    exposures: ExposureSettings = ExposureSettings()
    align: AlignSettings = AlignSettings()
    sky: SkySettings = SkySettings()
    solve_anew: bool = False
    """Solve the sky levels and the alignment of all exposures together, and tell how far they moved. Off, exposures
    that were solved before keep their levels, stripes and WCS, and new ones are fitted to them, so that a new frame
    costs what it touches."""
    engine: Literal["tiles", "jwst"] = "tiles"
    """What finds outliers and combines exposures: this project's engine in tiles, or the jwst package's steps."""
    outliers: OutlierSettings = OutlierSettings()
    grid: GridSettings = GridSettings()
    drizzle: DrizzleSettings = DrizzleSettings()
    catalog: CatalogSettings = CatalogSettings()
    resources: ResourceSettings = ResourceSettings()
    cleanup: CleanupSettings = CleanupSettings()

    @property
    def is_synthetic(self) -> bool:
        """Whether the frames are simulated, because no raw frames are named."""
        return self.raw is None

    def url(self, part: Literal["raw", "products", "cache", "crds", "truth"]) -> str:
        """URL of one part of the store."""
        return getattr(self, part, None) or f"{self.store.rstrip('/')}/{part}"

    @model_validator(mode="after")
    def _simulation_only_without_raw(self) -> Self:
        # A form sends every setting along, untouched ones too.
        if self.raw is not None and self.simulation != SimulationSettings():
            raise ValueError("give either raw (frames you have) or simulation (frames to make), not both")
        return self

    @model_validator(mode="after")
    def _errors_that_the_engine_knows(self) -> Self:
        if self.engine == "jwst" and self.drizzle.errors != "jwst":
            raise ValueError(f'drizzle.errors = "{self.drizzle.errors}" needs engine = "tiles"')
        return self


def load_survey(arguments: list[str]) -> Survey:
    """Merge command line over environment over survey file over defaults.

    Parameters
    ----------
    arguments
        Command-line arguments without the program's name: an optional survey file (TOML), then flags as
        ``--grid.pixel_scale_mas 60``. The environment's names are ``COSMOSAIC_GRID__PIXEL_SCALE_MAS``.

    Raises
    ------
    pydantic.ValidationError
        A key is unknown or a value out of bounds.
    FileNotFoundError
        The survey file does not exist.
    SystemExit
        ``--help`` was asked for, or a flag is unknown.
    """
    file = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"there is no survey file {file}; `--help` tells what it may hold")

    class CommandLine(BaseSettings, Survey):
        """Make mosaics, catalogues and a run table of a NIRCam survey; without arguments, of a synthetic one."""

        model_config = SettingsConfigDict(
            extra="forbid",
            env_prefix="COSMOSAIC_",
            env_nested_delimiter="__",
            toml_file=file,
            cli_prog_name="python flows/mosaic.py",
            cli_kebab_case=False,
            cli_avoid_json=True,
            use_attribute_docstrings=True,
        )
        survey_file: CliPositionalArg[Path | None] = Field(default=None, description="Survey file (TOML).")

        @classmethod
        def settings_customise_sources(  # type: ignore[override]
            cls, settings_cls: type[BaseSettings], **_: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                CliSettingsSource(settings_cls, cli_parse_args=arguments),
                EnvSettingsSource(settings_cls),
                TomlConfigSettingsSource(settings_cls),
            )

    merged = CommandLine()
    return Survey.model_validate(merged.model_dump(exclude={"survey_file"}, exclude_unset=True))
