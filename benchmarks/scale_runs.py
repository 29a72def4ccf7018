"""Runs of the flow on many tiny exposures, and what each cost: see ``benchmarks/scale.py``."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import asdf
import numpy as np
import psutil
from astropy.io import fits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from cosmosaic.geometry.grid import pixel_to_sky  # noqa: E402
from cosmosaic.geometry.wcs import grid_wcs  # noqa: E402
from cosmosaic.geometry.windows import lattice  # noqa: E402
from cosmosaic.records import MosaicGrid  # noqa: E402

FILTERS = ("F115W", "F150W")
SIDE = 256
"""Pixels of an exposure."""
DETECTOR_MAS, MOSAIC_MAS = 31.0, 30.0
CENTRE = (150.1, 2.2)
DITHERS = ((0.0, 0.0), (0.31, 0.11), (0.12, 0.42), (0.45, 0.33))
"""In widths of an exposure."""
SPACING = 1.05
"""Of the places of four dithers, in widths of an exposure."""
SKY, RMS = 0.3, 0.05
"""MJy/sr."""
SOURCES = 12
"""Sources in an exposure."""
TILE_PIXELS = 512
NAMED_PIXELS = 2048
"""Side of a named tile."""
SAMPLES_S = 0.5
PLANES = ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")


@dataclass(frozen=True)
class Place:
    """An exposure of the survey."""

    number: int
    band: str
    visit: int
    x: float
    y: float
    """Lower left corner from the middle of the field, in pixels."""

    @property
    def name(self) -> str:
        """File name up to the level."""
        return f"jw09999{self.visit // 1000:03}{self.visit % 1000:03}_02101_{self.number:05}_nrcb1"


def places(number: int) -> list[Place]:
    """Four dithers of each place of a square field in one filter after the other; more exposures extend the field."""
    each = number // len(FILTERS)
    corners = spiral(-(-each // len(DITHERS)))
    made = []
    for order, band in enumerate(FILTERS):
        for index in range(each):
            corner, dither = corners[index // len(DITHERS)], DITHERS[index % len(DITHERS)]
            x, y = (SIDE * (SPACING * corner[axis] + dither[axis]) for axis in (0, 1))
            made.append(Place(order * 50000 + index + 1, band, 1 + index // 40, x, y))
    return made


def spiral(number: int) -> list[tuple[int, int]]:
    """Whole-numbered places around (0, 0), the nearest first."""
    half = int(np.ceil(np.sqrt(number) / 2)) + 1
    every = [(x, y) for x in range(-half, half + 1) for y in range(-half, half + 1)]
    return sorted(every, key=lambda place: (max(map(abs, place)), place))[:number]


def make_exposures(number: int, folder: Path) -> Path:
    """Write the calibrated exposures of a survey; those there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(write_exposure, folder=folder), places(number), chunksize=50))
    return folder


def add_exposure(number: int, folder: Path, which: int = 0) -> None:
    """Write one exposure more, at one of the places in the middle of the field."""
    place = places(number)[which * len(DITHERS)]
    write_exposure(replace(place, number=40_000 + which, x=place.x + SIDE / 5, y=place.y + SIDE / 5), folder)


def name_tiles(number: int, folder: Path) -> dict[str, Any]:
    """Write the table of square tiles that a survey's exposures reach; return the settings of its grid."""
    ratio, sides = DETECTOR_MAS / MOSAIC_MAS / NAMED_PIXELS, set()
    for place in places(number):
        columns, rows = ([int(np.floor(edge * ratio)) for edge in (low, low + SIDE)] for low in (place.x, place.y))
        sides |= {(column, row) for column in columns for row in rows}
    table = ["name,crpix_x,crpix_y,nx,ny"]
    for column, row in sorted(sides):
        corner = f"{-column * NAMED_PIXELS - 0.5},{-row * NAMED_PIXELS - 0.5}"
        table.append(f"x{column}y{row},{corner},{NAMED_PIXELS},{NAMED_PIXELS}")
    path = folder / "tiles.csv"
    path.write_text("\n".join([*table, ""]))
    return {"grid": {"tangent_ra": CENTRE[0], "tangent_dec": CENTRE[1], "tiles": str(path)}}


def write_exposure(place: Place, folder: Path) -> None:
    """Write one exposure: a flat sky with noise and sources that all exposures share."""
    path = folder / f"{place.name}_cal.fits"
    if path.exists():
        return
    grid = MosaicGrid(
        tangent_ra=CENTRE[0],
        tangent_dec=CENTRE[1],
        rotation=0.0,
        pixel_scale_mas=DETECTOR_MAS,
        crpix=(-place.x, -place.y),
        shape=(SIDE, SIDE),
    )
    draw = np.random.default_rng(place.number)
    data = SKY + draw.normal(0, 0.01) + RMS * draw.standard_normal((SIDE, SIDE)) + sources(place)
    planes = dict.fromkeys(PLANES[2:4], np.full((SIDE, SIDE), RMS**2 / 2, np.float32))
    planes |= {"SCI": data.astype(np.float32), "ERR": np.full((SIDE, SIDE), RMS, np.float32)}
    planes["VAR_FLAT"] = np.zeros((SIDE, SIDE), np.float32)
    hdus = [fits.PrimaryHDU(header=primary_header(place))]
    hdus += [fits.ImageHDU(planes[name], name=name) for name in PLANES]
    hdus.insert(3, fits.ImageHDU(np.zeros((SIDE, SIDE), np.uint32), name="DQ"))
    hdus[1].header.update(sci_cards(grid))
    part = path.with_suffix(".part")
    fits.HDUList([*hdus, asdf_table({"meta": {"wcs": grid_wcs(grid)}})]).writeto(part, overwrite=True)
    part.rename(path)


def sources(place: Place) -> np.ndarray:
    """Light of the sources of the sky within an exposure, shape ``(SIDE, SIDE)``: a few in each square of its size."""
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.zeros((SIDE, SIDE))
    first = [int(np.floor(corner / SIDE)) for corner in (place.x, place.y)]
    for column, row in ((first[0] + dx, first[1] + dy) for dx in (0, 1) for dy in (0, 1)):
        draw = np.random.default_rng([column + 10_000, row + 10_000])
        for _ in range(SOURCES):
            at = SIDE * (np.array([column, row]) + draw.random(2)) - (place.x, place.y)
            width, flux = draw.uniform(1.2, 4.0), draw.pareto(1.2)
            light += flux * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * width**2))
    return light


def primary_header(place: Place) -> fits.Header:
    """Keywords of an archive's calibrated exposure."""
    name = place.name
    hours = place.number % 50000 // 40
    return fits.Header(
        {
            "TELESCOP": "JWST",
            "INSTRUME": "NIRCAM",
            "EXP_TYPE": "NRC_IMAGE",
            "DETECTOR": "NRCB1",
            "CHANNEL": "SHORT",
            "MODULE": "B",
            "FILTER": place.band,
            "PUPIL": "CLEAR",
            "SUBARRAY": "SUB160",
            "PROGRAM": name[2:7],
            "OBSERVTN": name[7:10],
            "VISIT": name[10:13],
            "VISITGRP": "02",
            "SEQ_ID": "1",
            "ACT_ID": "01",
            "EXPOSURE": f"{place.number:05}",
            "DATE-BEG": f"2023-01-{1 + hours // 24:02}T{hours % 24:02}:{place.number % 40:02}:00.000",
            "EFFEXPTM": 311.4,
            "XPOSURE": 311.4,
            "NGROUPS": 6,
            "VISITSTA": "SUCCESSFUL",
            "PCS_MODE": "FINEGUIDE",
            "ENGQLPTG": "CALCULATED_TR_202105",
            "CAL_VER": "1.16.0",
            "CRDS_CTX": "jwst_1293.pmap",
            "S_CLNFNS": "COMPLETE",
            "FILENAME": f"{name}_cal.fits",
        }
    )


def sci_cards(grid: MosaicGrid) -> dict[str, Any]:
    """Keywords of an exposure's SCI extension."""
    corners = np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)]) - 0.5
    sky = pixel_to_sky(lattice(grid), corners - np.array(grid.crpix) - 0.5)
    region = " ".join(f"{value:.9f}" for corner in sky for value in corner)
    middle = np.mean(sky, axis=0)
    return {
        "BUNIT": "MJy/sr",
        "PIXAR_SR": (DETECTOR_MAS / 1000 / 206264.806) ** 2,
        "PIXAR_A2": (DETECTOR_MAS / 1000) ** 2,
        "PHOTMJSR": 1.0,
        "CRVAL1": middle[0],
        "CRVAL2": middle[1],
        "RA_REF": middle[0],
        "DEC_REF": middle[1],
        "ROLL_REF": 0.0,
        "V2_REF": -100.9,
        "V3_REF": -479.6,
        "VPARITY": -1,
        "V3I_YANG": 0.34,
        "S_REGION": f"POLYGON ICRS  {region}",
    }


def asdf_table(tree: dict[str, Any]) -> fits.BinTableHDU:
    """Return the extension in which jwst keeps the metadata of a file."""
    stream = BytesIO()
    asdf.AsdfFile(tree).write_to(stream)
    content = np.frombuffer(stream.getvalue(), np.uint8)
    column = fits.Column("ASDF_METADATA", f"{len(content)}B", array=content[None])
    return fits.BinTableHDU.from_columns([column], name="ASDF")


def run(
    raw: Path, store: Path, settings: Mapping[str, Any] | None = None, script: Path = Path(__file__)
) -> dict[str, Any]:
    """Run the flow in a process of its own, by a script that calls `run_here`; return what it cost."""
    home = store / "home"
    home.mkdir(parents=True, exist_ok=True)
    before = database_mb(home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "COSMOSAIC_"))}
    environment |= {"PREFECT_HOME": str(home), "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    # On a machine that others use, the server takes minutes to start.
    environment["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "900"
    outcome = store / "outcome.json"
    survey = {"name": "scale", "store": str(store), "raw": str(raw)}
    survey |= {"resources": {"tile_pixels": TILE_PIXELS, "processes": 2}} | (settings or {})
    command = [sys.executable, str(script), json.dumps(survey), str(outcome)]
    with (
        (store / "log.txt").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as flow,
    ):
        most = watched(flow)
    if flow.returncode:
        raise RuntimeError(f"the flow failed: {(store / 'log.txt').read_text()[-3000:]}")
    cost = json.loads(outcome.read_text()) | most
    cost["database_mb"] = round(database_mb(home) - before, 1)
    cost["cache_files"] = sum(len(files) for _, _, files in os.walk(store / "cache"))
    return cost


def watched(flow: subprocess.Popen) -> dict[str, int]:
    """Wait for a process; return the most memory and threads it had, its server's memory, and that of all together."""
    process, rss, server, everything, threads = psutil.Process(flow.pid), 0, 0, 0, 0
    while flow.poll() is None:
        try:
            own, threads = process.memory_info().rss, max(threads, process.num_threads())
            children = {child.pid: (child.memory_info().rss, child.cmdline()) for child in process.children()}
        except psutil.NoSuchProcess:
            continue  # a child has ended
        servers = sum(size for size, command in children.values() if "uvicorn" in command)
        rss, server = max(rss, own), max(server, servers)
        everything = max(everything, own + sum(size for size, _ in children.values()))
        time.sleep(SAMPLES_S)
    flow.wait()
    sizes = {"flow_rss_mb": rss, "server_rss_mb": server, "all_rss_mb": everything}
    return {name: round(size / 2**20) for name, size in sizes.items()} | {"threads": threads}


def database_mb(home: Path) -> float:
    """Return the size of the embedded server's database."""
    return sum(file.stat().st_size for file in home.glob("prefect.db*")) / 1e6


@contextmanager
def ledgers() -> Iterator[list[Any]]:
    """Give the ledgers of the runs that are made meanwhile."""
    from tasks.runtime.report import listening

    heard: list[Any] = []
    with listening(heard.append):
        yield heard


def run_here(survey: dict[str, Any], outcome: Path) -> None:
    """Run the flow in this process and write what it cost."""
    from cosmosaic.survey import Survey
    from flows.mosaic import mosaic
    from tasks.runtime.environment import prefect_defaults
    from tasks.runtime.leftovers import temporary_servers

    start, cpu = time.perf_counter(), time.process_time()
    with prefect_defaults(), ledgers() as heard:
        state = mosaic(Survey.model_validate(survey), return_state=True)
        server_cpu = sum(sum(server.cpu_times()[:2]) for server in temporary_servers())
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    if not state.is_completed():
        raise RuntimeError(str(state)[:3000])
    (ledger,) = heard
    results = [record.result for record in ledger.executed]
    cost = {
        "wall_s": round(wall, 1),
        "flow_cpu_s": round(cpu, 1),
        "server_cpu_s": round(server_cpu, 1),
        "children_cpu_s": round(sum(result.cpu_s for result in results), 1),
        "steps": len(ledger.records),
        "executed": len(results),
        "idle_end_s": round(idle_at_end(ledger), 1),
    }
    outcome.write_text(json.dumps(cost))


def idle_at_end(ledger: Any) -> float:
    """Seconds at the end of a run in which at most one step worked."""
    spans = sorted(
        (record.ended.timestamp() - record.result.wall_s, record.ended.timestamp()) for record in ledger.executed
    )
    latest = alone_since = 0.0
    for begin, end in spans:
        if begin < latest:
            alone_since = max(alone_since, min(latest, end))
        latest = max(latest, end)
    return latest - alone_since


if __name__ == "__main__":
    run_here(json.loads(sys.argv[1]), Path(sys.argv[2]))
