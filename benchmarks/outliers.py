"""How many cosmic rays outlier detection catches and how many star cores it eats, on exposures whose truth is known.

    python benchmarks/outliers.py --work benchmark-outliers

Four dithered exposures are simulated and hit by cosmic rays of one to four pixels, a known multiple of the error
high; the engine flags them with one to four of the exposures, for several tolerances of the local gradient. A hit
counts as caught where its brightest pixel is flagged; a star core is a pixel within 1.5 pixels of a true star that
stands out by 20 sigma and that no cosmic ray touched.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import binary_dilation
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.drizzle.exposure import read_exposure
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.exposures.library import exposure_name
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.simulate.survey import simulate_survey
from cosmosaic.survey import FilterPair, GridSettings, OutlierSettings, SimulationSettings, Survey

SCALES = ((1.2, 0.7), (2.0, 1.4), (3.0, 2.0))
HEIGHTS_SIGMA = ((5.0, 8.0), (8.0, 15.0), (15.0, 50.0), (50.0, 500.0))
HITS_PER_FRAME = 600
CORE_PIXELS = 1.5
CORE_SIGMA = 20.0
SIMULATION = SimulationSettings(
    level="cal",
    detectors=("NRCB1",),
    subarray="SUB640",
    filter_pairs=(FilterPair(short="F115W", long="F277W"),),
    dithers_arcsec=((-0.61, -0.42), (0.43, 0.32), (0.92, -0.53), (-0.34, 0.71)),
    cosmic_rays_per_s_cm2=0.0,
    stars_per_arcmin2=1000.0,
)


class Here(Executor):
    """Runs everything at once, in this process."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Do it."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **named))
        return future


def hit(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Add cosmic rays to an exposure; return their brightest pixels (row, column, height in sigma) and all hit."""
    generator = np.random.default_rng(seed)
    with fits.open(path, mode="update") as hdus:
        science, error = hdus["SCI"].data, hdus["ERR"].data
        rows, columns = science.shape
        touched = np.zeros(science.shape, dtype=bool)
        hits = []
        for _ in range(HITS_PER_FRAME):
            row, column = generator.integers(4, rows - 4), generator.integers(4, columns - 4)
            low, high = HEIGHTS_SIGMA[generator.integers(len(HEIGHTS_SIGMA))]
            if touched[row - 2 : row + 3, column - 2 : column + 3].any() or not np.isfinite(error[row, column]):
                continue
            height = np.exp(generator.uniform(np.log(low), np.log(high)))
            hits.append((row, column, height))
            length, angle = generator.integers(1, 5), generator.uniform(0, 2 * np.pi)
            for step in range(length):
                j, i = row + round(step * np.sin(angle)), column + round(step * np.cos(angle))
                touched[j, i] = True
                science[j, i] += height * error[row, column] * (1.0 if step == 0 else 0.5)
    return np.array(hits), touched


def star_cores(path: Path, stars: Table, touched: np.ndarray) -> np.ndarray:
    """Return the bright pixels in the middles of true stars."""
    exposure = read_exposure(path)
    x, y = exposure.wcs.invert(stars["ra"], stars["dec"], with_bounding_box=False)
    j, i = np.indices(exposure.shape)
    cores = np.zeros(exposure.shape, dtype=bool)
    for centre_x, centre_y in zip(np.asarray(x), np.asarray(y), strict=True):
        cores |= np.hypot(i - centre_x, j - centre_y) < CORE_PIXELS
    bright = exposure.sci - np.nanmedian(exposure.sci) > CORE_SIGMA * exposure.err
    return cores & bright & ~binary_dilation(touched, np.ones((5, 5)))


def rates(folder: Path) -> list[dict[str, Any]]:
    """Measure all scales at all depths."""
    frames = simulate_survey(SIMULATION, folder)
    sources = Table.read(folder / "truth/sources.ecsv")
    stars = sources[sources["kind"] == "star"]
    truth = {}
    for number, path in enumerate(frames):
        hits, touched = hit(path, number)
        truth[exposure_name(path.name)] = hits, star_cores(path, stars, touched)
    levels = {exposure_name(path.name): float(np.nanmedian(fits.getdata(path, "SCI"))) for path in frames}
    grid = survey_grid(GridSettings(), {path.name: read_footprint(path) for path in frames})
    measured = []
    for depth in range(1, len(frames) + 1):
        for scale in SCALES:
            survey = Survey(name="outliers", raw="given", outliers=OutlierSettings(scale=scale))
            made = folder / f"made-{depth}-{scale[0]:g}"
            _, crfs = make_mosaic(frames[:depth], levels, grid, survey, made, Here())
            measured.append({"depth": depth, "scale": scale} | _rates(list(crfs.values()), truth))
            print(measured[-1], flush=True)
    return measured


def _rates(crf: list[Path], truth: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    caught: dict[str, list[bool]] = {f"{low:g}-{high:g} sigma": [] for low, high in HEIGHTS_SIGMA}
    cores, eaten, blank, wrong = 0, 0, 0, 0
    for path in crf:
        flagged = (fits.getdata(path, "DQ") & pixel["OUTLIER"]) > 0
        hits, core = truth[exposure_name(path.name)]
        inside = np.s_[60:-60, 60:-60]
        touched = np.zeros(flagged.shape, dtype=bool)
        for row, column, height in hits:
            touched[int(row), int(column)] = True
            if not (60 <= row < flagged.shape[0] - 60 and 60 <= column < flagged.shape[1] - 60):
                continue
            (name,) = (f"{low:g}-{high:g} sigma" for low, high in HEIGHTS_SIGMA if low <= height < high)
            caught[name].append(bool(flagged[int(row), int(column)]))
        cores, eaten = cores + core[inside].sum(), eaten + (core & flagged)[inside].sum()
        clear = ~core & ~binary_dilation(touched, np.ones((11, 11)))
        blank, wrong = blank + clear[inside].sum(), wrong + (clear & flagged)[inside].sum()
    result = {name: round(float(np.mean(values)), 3) for name, values in caught.items()}
    return result | {
        "core pixels": int(cores),
        "eaten": round(float(eaten / max(cores, 1)), 4),
        "other pixels flagged": round(float(wrong / max(blank, 1)), 6),
    }


def main() -> None:
    """Measure and print; ``--json`` writes the table too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("benchmark-outliers"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    measured = rates(arguments.work)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
