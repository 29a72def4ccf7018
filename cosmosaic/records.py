"""The small records that pass between steps: URIs and facts about them, never arrays."""

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic.dataclasses import dataclass

from cosmosaic.nircam import band_name

State = Literal["not applicable", "pass", "not measurable", "warn", "fail"]
STATES: tuple[State, ...] = ("not applicable", "pass", "not measurable", "warn", "fail")
"""States of a verdict, from good to bad: a metric that could not be measured does not pass."""


class Record(BaseModel):
    """A frozen set of named facts; equal facts compare and serialise equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredObject:
    """An object that is whole in a store, and the checksum it had when it was written or read.

    A flow keeps a million of them: with slots one takes half the memory of a `Record`.
    """

    uri: str
    sha256: str
    size: int
    version: str = ""
    """The version that had this checksum, see `cosmosaic.storage.names.ListedObject`; empty if it is not known. An
    object that still has it need not be read to be trusted. Objects with the same bytes are equal, whatever their
    version."""

    @property
    def name(self) -> str:
        """The object's file name."""
        return self.uri.rsplit("/", 1)[-1]

    def __eq__(self, other: object) -> bool:
        """Compare all but the version."""
        return isinstance(other, StoredObject) and self._bytes == other._bytes

    def __hash__(self) -> int:
        """Hash all but the version."""
        return hash(self._bytes)

    @property
    def _bytes(self) -> tuple[str, str, int]:
        return self.uri, self.sha256, self.size


class Exposure(Record):
    """One exposure of one detector, as its primary and SCI headers describe it."""

    object: StoredObject
    level: str
    """``uncal``, ``rate`` or ``cal``: the calibration level the exposure enters at."""
    program: str
    observation: str
    visit: str
    exposure: str
    """The exposure's identifier within its visit: visit group, parallel sequence, activity and exposure number."""
    detector: str
    filter: str
    pupil: str
    subarray: str
    start: str
    """Start of the exposure, UTC, ISO 8601."""
    exposure_time: float
    """Effective exposure time in seconds."""
    footprint: tuple[tuple[float, float], ...]
    """Corners (RA, Dec) in degrees, ICRS, counter-clockwise or clockwise as S_REGION has them."""
    ramp: tuple[int, ...] = ()
    """Integrations, groups, rows and columns of a raw exposure."""
    calibration_version: str = ""
    crds_context: str = ""
    flicker_removed: bool = False
    """Whether its 1/f noise was subtracted before it came here (S_CLNFNS)."""
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The exposure and detector without the level, e.g. ``jw01727001001_02101_00001_nrcb1``."""
        return self.object.name.split(".fits")[0].removesuffix(f"_{self.level}")

    @property
    def band(self) -> str:
        """The filter as astronomers name it, in whichever wheel it is: ``F150W`` or ``F470N``."""
        return band_name(f"{self.filter}-{self.pupil or 'CLEAR'}")


class RefusedFile(Record):
    """An object under the raw prefix that cannot take part, and why."""

    uri: str
    reason: str


class Reference(Record):
    """A calibration reference file that a step will use."""

    kind: str
    """CRDS reference type, e.g. ``gain``."""
    name: str
    path: str
    sha256: str


class Lattice(Record):
    """A tangent-plane pixel grid without bounds, whose pixels (or cells) are counted from the tangent point."""

    tangent_ra: float
    tangent_dec: float
    """Tangent point in degrees, ICRS."""
    rotation: float
    """Position angle of the pixel grid's +y axis in degrees, east of north."""
    pixel_scale_mas: float
    crpix: tuple[float, float] = (-0.5, -0.5)
    """0-based pixel (x, y) of the tangent point, which is on the corner of four unless the pixels are an image's."""


class MosaicGrid(Lattice):
    """A window of the survey's lattice.

    All windows of a survey share tangent point and rotation; their pixel scales nest and their
    offsets are whole pixels, so mosaics of different filters can be compared pixel by pixel.
    """

    crpix: tuple[float, float]
    shape: tuple[int, int]
    """Rows and columns (ny, nx)."""
    tile: str = "full"


class Windows(NamedTuple):
    """The mosaics that are made of one filter."""

    whole: MosaicGrid
    """The window that contains all exposures."""
    tiles: tuple[MosaicGrid, ...] = ()
    """Those that the user named."""
    is_whole_made: bool = True
    """Whether the whole becomes a mosaic, or only the tiles."""

    @property
    def mosaics(self) -> tuple[MosaicGrid, ...]:
        """The windows that become mosaics, if exposures reach them."""
        return (self.whole, *self.tiles) if self.is_whole_made else self.tiles


class Association(Record):
    """The exposures that make one mosaic."""

    product_name: str
    band: str
    filter: str
    pupil: str
    members: tuple[str, ...]
    """Names of the exposures, sorted."""
