"""The flow on a survey like COSMOS-Web whose steps make nothing but records of files: see ``benchmarks/scale.py``.

The flow, its tasks, its server, the pool of child processes, records of finished steps, run table and lineage are those
of any run. The child processes return records of files that do not exist, in place of each step's function; exposures
are not searched for but made up, and so are their reference files.
"""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from numpy.polynomial import polynomial
from scale_runs import run, run_here

from cosmosaic.artefacts.steps import MeasureWisps
from cosmosaic.calibrate.references import ResolvedReferences
from cosmosaic.calibrate.steps import STAGE1_KINDS, STAGE2_KINDS
from cosmosaic.catalog.steps import NumberSources
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.nircam import DETECTOR_PIXELS, is_long_wavelength_detector
from cosmosaic.outliers.steps import FlagExposure, MakeReference
from cosmosaic.preview.steps import Thumbnail
from cosmosaic.records import Exposure, Lattice, Reference, StoredObject
from cosmosaic.sky.steps import MeasureSky
from cosmosaic.steps.declaration import Step
from cosmosaic.steps.execution import key_of
from cosmosaic.steps.files import files_in, stored_in
from cosmosaic.steps.publication import Publish, place_of
from cosmosaic.steps.result import StepResult
from cosmosaic.storage import store

CENTRE, ROTATION = (150.1163213, 2.200973097), 20.0
"""Of COSMOS-Web's public mosaics."""
VISITS = (8, 19)
"""Columns and rows: 152 visits, some of which were repeated (Casey et al. 2023, ApJ 954, 31)."""
PITCH_ARCSEC = (311.0, 147.0)
"""Of visits, for their 41.5 x 46.6 arcmin."""
DITHERS_ARCSEC = ((-24.5, 12.4), (-24.5, -12.5), (24.5, -12.4), (24.5, 12.5))
"""Of the pattern 4TIGHT about its middle (JWST User Documentation)."""
PAIRS = (("F115W", "F277W"), ("F150W", "F444W"))
DETECTORS = tuple(f"NRC{module}{number}" for module in "AB" for number in ("1", "2", "3", "4", "LONG"))
TILES, TILE_PIXELS = (4, 5), (21_504, 19_456)
"""Named tiles, columns and rows, and their sides: they contain the field."""
RAMP = (1, 6, DETECTOR_PIXELS, DETECTOR_PIXELS)
BYTES = {"_cells.npz": 1_100_000, "_sums.packed": 34_000_000}
OTHER_BYTES = 1_000_000
EXPOSURES = "exposures.json"

NAMES: dict[type[Step], Callable[[Any], dict[str, list[str]]]] = {
    MakeReference: lambda step: {"references": list(step.sums)},
    FlagExposure: lambda step: {"patches": [tile.tile for tile in step.tiles]},
    MeasureSky: lambda step: {"exposures": list(step.cells)},
    MeasureWisps: lambda step: {"wisps": list(step.exposures)},
    NumberSources: lambda step: {"numbers": list(step.catalogs)},
}
"""Names of the files of those steps that make many of one kind."""


def make_survey(number: int, folder: Path) -> Path:
    """Write the descriptions of a survey's exposures, and the table of its tiles."""
    folder.mkdir(parents=True, exist_ok=True)
    exposures = [one.model_dump(mode="json") for one, _ in zip(described(), range(number), strict=False)]
    (folder / EXPOSURES).write_text(json.dumps(exposures))
    (folder / "tiles.csv").write_text("\n".join(["name,crpix_x,crpix_y,nx,ny", *named_tiles(), ""]))
    return folder


def named_tiles() -> Iterator[str]:
    """Yield the rows of the table of tiles."""
    (columns, rows), (width, height) = TILES, TILE_PIXELS
    for column, row in np.ndindex(columns, rows):
        crpix_x, crpix_y = (columns / 2 - column) * width - 0.5, (rows / 2 - row) * height - 0.5
        yield f"{'ABCD'[column]}{row + 1},{crpix_x},{crpix_y},{width},{height}"


def described() -> Iterator[Exposure]:
    """Yield exposures of full frames, visit by visit outwards from the middle, and then of the repeated visits."""
    # Pixels of an arcsec about the tangent point, with V3 up: +x is to the west, as -V2.
    plane = Lattice(
        tangent_ra=CENTRE[0], tangent_dec=CENTRE[1], rotation=ROTATION, pixel_scale_mas=1000.0, crpix=(0.0, 0.0)
    )
    corners = {detector: corners_of(detector) for detector in DETECTORS}
    middle = np.mean(list(corners.values()), axis=(0, 1))
    places = [np.array(PITCH_ARCSEC) * (np.array(place) - (np.array(VISITS) - 1) / 2) for place in np.ndindex(VISITS)]
    places.sort(key=lambda place: (float(np.abs(place).max()), *place.tolist()))
    for visit, place in enumerate([*places, *places], 1):
        for pair, filters in enumerate(PAIRS):
            for dither, offset in enumerate(DITHERS_ARCSEC, 1):
                for detector, own in corners.items():
                    sky = pixel_to_sky(plane, place + offset + (own - middle) * (-1, 1))
                    name = f"jw01727{visit:03}001_0{2 + 2 * pair}101_{dither:05}_{detector.lower()}"
                    yield exposure_of(name, filters[is_long_wavelength_detector(detector)], detector, sky.tolist())


def corners_of(detector: str) -> np.ndarray:
    """Corners of a detector in (V2, V3), arcsec, shape ``(4, 2)``."""
    from cosmosaic.simulate.geometry import detector_geometry  # pysiaf, which a flow does not load

    geometry = detector_geometry(detector)
    x, y = DETECTOR_PIXELS * np.array([(0, 0), (1, 0), (1, 1), (0, 1)]).T - 0.5
    dx, dy = x - geometry.x_reference, y - geometry.y_reference
    return np.stack([polynomial.polyval2d(dx, dy, each) for each in (geometry.v2, geometry.v3)], axis=-1)


def exposure_of(name: str, band: str, detector: str, footprint: list[list[float]]) -> Exposure:
    """Describe a ramp as its headers would."""
    stored = StoredObject(uri=f"/raw/{name}_uncal.fits", sha256=digest(name), size=100_000_000)
    return Exposure(
        object=stored,
        level="uncal",
        program=name[2:7],
        observation=name[7:10],
        visit=name[10:13],
        exposure=name[14:25],
        detector=detector,
        filter=band,
        pupil="CLEAR",
        subarray="FULL",
        start="2023-01-05T00:00:00.000",
        exposure_time=257.682,
        footprint=tuple((ra, dec) for ra, dec in footprint),
        ramp=RAMP,
    )


def read_survey(prefix: str, filters: tuple[str, ...], memo: str) -> FoundExposures:
    """Read what `make_survey` wrote, in place of the search for exposures."""
    content = json.loads((Path(prefix) / EXPOSURES).read_text())
    return FoundExposures(tuple(sorted(map(Exposure.model_validate, content), key=lambda one: one.object.uri)), ())


def name_references(asked: tuple[Exposure, ...], folder: Path) -> ResolvedReferences:
    """Name reference files, in place of CRDS (in a child process)."""
    found = {one.object.uri: references_of(one.detector, one.band) for one in asked}
    return ResolvedReferences(found=found, missing={})


def references_of(detector: str, band: str) -> tuple[Reference, ...]:
    """Reference files of Stages 1 and 2."""
    names = {kind: f"jwst_nircam_{kind}_{detector}_{band}.fits" for kind in sorted({*STAGE1_KINDS, *STAGE2_KINDS})}
    return tuple(
        Reference(kind=kind, name=name, path=f"/crds/references/jwst/nircam/{name}", sha256=digest(name))
        for kind, name in names.items()
    )


def perform(step: Step, key: str, target: str, folder: Path) -> tuple[dict[str, Any], dict[str, float], tuple, int]:
    """Return records of a step's files, in place of its work (in a child process)."""
    stored = partial(made, key=key, target=target)
    names, stem = NAMES.get(type(step), lambda _: {})(step), stem_of(step)
    files = {
        output: {name: stored(f"{name}{field.kind.suffix}") for name in names.get(output, ())}
        if field.is_many
        else None
        if field.is_optional
        else stored(f"{stem}{field.kind.suffix}")
        for output, field in step.outputs.fields().items()
    }
    for output, field in step.outputs.fields().items():
        if field.kind is Thumbnail:  # the report shows it
            store.publish_bytes(b"", cast(StoredObject, files[output]).uri)
    facts = dict.fromkeys((*step.columns, "state", "step_state", "zero_state"), 1.0)
    return files, facts, (), 0


def stem_of(step: Step) -> str:
    """Return the name of a step's files without their endings."""
    given = step.parameters
    if "tile" in given:
        return given["tile"].tile
    names = [given[name] for name in ("stem", "product_name") if name in given]
    return names[0] if names else stored_in(tuple(step.inputs.values()))[0].name.rpartition("_")[0]


def made(name: str, key: str, target: str) -> StoredObject:
    """Return the record of a file."""
    size = next((size for suffix, size in BYTES.items() if name.endswith(suffix)), OTHER_BYTES)
    return StoredObject(uri=store.join(target, name), sha256=digest(f"{key}{name}"), size=size)


def publish(step: Publish, scratch: str | None) -> StepResult:
    """Return records of products, in place of copies."""
    products = {
        place: dataclasses.replace(file.stored, uri=store.join(step.target, place))
        for place, file in ((place_of(file), file) for file in files_in(step.files))
    }
    return StepResult(step=step.name, key=key_of(step), files={"products": products}, cpu_s=0, wall_s=0, peak_mb=0)


def digest(text: str) -> str:
    """Return a checksum for a file that does not exist."""
    return sha256(text.encode()).hexdigest()


@contextmanager
def stubbed() -> Iterator[None]:
    """Put records in the place of the library's work."""
    import scale_stubbed  # by its name, by which child processes import it

    import tasks.find
    import tasks.steps
    from cosmosaic.exposures import search
    from cosmosaic.steps import execution

    with ExitStack() as stack:
        for module, name, stub in (
            (execution, "_perform", scale_stubbed.perform),
            (search, "find_exposures", scale_stubbed.read_survey),
            (tasks.find, "resolve", scale_stubbed.name_references),
            (tasks.steps, "publish", scale_stubbed.publish),
        ):
            stack.enter_context(patch.object(module, name, stub))
        yield


def run_stubbed(number: int) -> dict[str, Any]:
    """Run the flow on a survey of some exposures; return what it cost."""
    with tempfile.TemporaryDirectory(prefix="stubbed-") as work:
        raw, folder = make_survey(number, Path(work) / "raw"), Path(work) / "store"
        cost = run(raw, folder, settings_of(raw), Path(__file__))
    return {"exposures": number} | cost


def settings_of(raw: Path) -> Mapping[str, Any]:
    """Settings of the survey in addition to those of other runs."""
    grid = {"tangent_ra": CENTRE[0], "tangent_dec": CENTRE[1], "rotation": ROTATION, "tiles": str(raw / "tiles.csv")}
    return {"grid": grid, "resources": {"processes": 2, "memory_gb": 6.0}}


if __name__ == "__main__":
    with stubbed():
        run_here(json.loads(sys.argv[1]), Path(sys.argv[2]))
