"""Depth and fluxes of mosaics of uneven exposures by their weights.

    python benchmarks/weights.py

Simulated exposures (level cal, four dithers) that differ in length, in the brightness of the sky, or not at all, are
combined with each of ``drizzle.weight_type``. Printed are the scatter of empty apertures of 0.3 arcsec diameter,
relative to that with ``ivm-sky`` as measured and as the variances predict, and the flux of bright stars relative to
truth.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.stats import mad_std
from astropy.table import Table
from outliers import Here

from cosmosaic.catalog.apertures import circles, sum_apertures
from cosmosaic.catalog.image import MosaicImage, read_mosaic
from cosmosaic.drizzle.exposure import read_exposure, sky_variance
from cosmosaic.exposures.footprints import read_footprint
from cosmosaic.geometry.grid import survey_grid
from cosmosaic.mosaic.alone import make_mosaic
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import DrizzleSettings, FilterPair, GridSettings, OutlierSettings, SimulationSettings, Survey

WEIGHTS = ("ivm-sky", "ivm", "exptime")
SKY = 0.25
FIELDS: dict[str, tuple[tuple[int, float], ...]] = {
    "equal": ((6, SKY),) * 4,
    "lengths": ((3, SKY), (3, SKY), (3, SKY), (10, SKY)),
    "skies": ((6, SKY), (6, SKY), (6, 3 * SKY), (6, 3 * SKY)),
    "both": ((3, SKY), (3, 3 * SKY), (10, SKY), (10, 3 * SKY)),
}
"""Groups and sky in MJy/sr of each exposure."""
DETECTORS = {"NRCB1": "F115W", "NRCBLONG": "F444W"}
BASE = SimulationSettings(
    level="cal",
    subarray="SUB640",
    readout_pattern="MEDIUM8",
    filter_pairs=(FilterPair(short="F115W", long="F444W"),),
    dithers_arcsec=((-0.6, -0.4), (0.4, 0.3), (0.9, -0.5), (-0.3, 0.7)),
    galaxies_per_arcmin2=0.0,
    stars_per_arcmin2=60.0,
    flicker_noise=False,
    pedestal_rms=0.0,
    cosmic_rays_per_s_cm2=0.0,
    pointing_error_mas=0.0,
    roll_error_arcsec=0.0,
    proper_motion_mas_yr=0.0,
)
APERTURE_ARCSEC, STAR_APERTURE_ARCSEC = 0.15, 0.5
"""Radii."""
BRIGHT_NJY = 2300.0
"""AB 23."""
CLEAR_ARCSEC = 1.5
"""Empty apertures are as far from every star."""


def simulated(detector: str, field: Sequence[tuple[int, float]], folder: Path) -> tuple[list[Path], Table, list[float]]:
    """Simulate the exposures of one detector; return the files, the stars, and the level of each sky."""
    base = BASE.model_copy(update={"detectors": (detector,)})
    planned = plan_exposures(base)
    scene = survey_scene(base, planned)
    paths = []
    for exposure, (groups, sky) in zip(planned, field, strict=True):
        settings = base.model_copy(update={"groups": groups, "sky_mjy_sr": sky})
        paths.append(simulate_exposure(exposure, scene, settings, folder)[0])
    levels = [float(np.nanmedian(read_exposure(path).sci)) for path in paths]
    return paths, scene, levels


def fluxes(image: MosaicImage, x: np.ndarray, y: np.ndarray, radius_arcsec: float) -> np.ndarray:
    """Sum circular apertures, MJy/sr times pixels; NaN where a pixel lacks."""
    sums = sum_apertures(image.sci, image.err, image.valid, circles(x, y, image.pixels(radius_arcsec)))
    return np.where(sums.missing > 0, np.nan, sums.flux)


def empty_places(image: MosaicImage, stars: SkyCoord) -> tuple[np.ndarray, np.ndarray]:
    """A lattice of places with full depth, away from stars."""
    rows, columns = np.meshgrid(*(np.arange(20, n - 20, 12.0) for n in image.sci.shape), indexing="ij")
    x, y = columns.ravel(), rows.ravel()
    depth = image.exposures if image.exposures is not None else image.wht
    deep = depth[y.astype(int), x.astype(int)] == depth.max()
    x, y = x[deep], y[deep]
    _, distance, _ = image.wcs.pixel_to_world(x, y).match_to_catalog_sky(stars)
    clear = distance.arcsec > CLEAR_ARCSEC
    return x[clear], y[clear]


def compare(detector: str, name: str) -> dict[str, dict[str, float]]:
    """Return scatter and star fluxes of one field by weight, and the scatter that the variances predict."""
    made: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        paths, scene, levels = simulated(detector, FIELDS[name], folder)
        by_name = {path.name.removesuffix("_cal.fits"): level for path, level in zip(paths, levels, strict=True)}
        grid = survey_grid(GridSettings(), {path.name: read_footprint(path) for path in paths})
        stars = SkyCoord(scene["ra"], scene["dec"], unit="deg")
        for weight in WEIGHTS:
            survey = Survey(
                name="weights",
                raw="given",
                outliers=OutlierSettings(enabled=False),
                drizzle=DrizzleSettings(weight_type=weight),
            )
            mosaic, _ = make_mosaic(paths, by_name, grid, survey, folder / weight, Here())
            image = read_mosaic(mosaic)
            empty = fluxes(image, *empty_places(image, stars), APERTURE_ARCSEC)
            places = image.wcs.world_to_pixel(stars)
            inside = [np.clip(axis, 30, n - 31) == axis for axis, n in zip(places, image.sci.shape[::-1], strict=True)]
            flux = np.asarray(scene[f"flux_{DETECTORS[detector]}"], float)
            chosen = np.logical_and(*inside) & (flux > BRIGHT_NJY)
            bright = fluxes(image, places[0][chosen], places[1][chosen], STAR_APERTURE_ARCSEC) * image.to_njy
            made[weight] = {
                "scatter_njy": float(mad_std(empty, ignore_nan=True) * image.to_njy),
                "apertures": float(np.isfinite(empty).sum()),
                "stars": float(np.isfinite(bright).sum()),
                "star_flux": float(np.nanmedian(bright / flux[chosen])),
                "star_flux_scatter": float(mad_std(bright / flux[chosen], ignore_nan=True)),
                "predicted": _predicted(paths, weight),
            }
    return made


def _predicted(paths: Sequence[Path], weight: str) -> float:
    """Error of a pixel that all exposures cover, by these weights, over that by the best."""
    read = [read_exposure(path) for path in paths]
    noise = np.array([float(np.nanmedian(one.variances[1])) for one in read])
    total = noise + [sky_variance(one) for one in read]
    weights = {"ivm-sky": 1 / total, "ivm": 1 / noise, "exptime": np.array([one.times.exposure for one in read])}[
        weight
    ]
    return float(np.sqrt((weights**2 * total).sum()) / weights.sum() * np.sqrt((1 / total).sum()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--fields", nargs="*", default=list(FIELDS), choices=list(FIELDS))
    arguments = parser.parse_args()
    result = {}
    for detector, band in DETECTORS.items():
        for name in arguments.fields:
            made = result[f"{band} {name}"] = compare(detector, name)
            best = made["ivm-sky"]
            for weight, one in made.items():
                scatter, predicted = (one[key] / best[key] for key in ("scatter_njy", "predicted"))
                print(
                    f"{band} {name:8} {weight:8} scatter {one['scatter_njy']:7.3f} nJy ({scatter:.3f} of ivm-sky, "
                    f"predicted {predicted:.3f}; {one['apertures']:.0f} apertures), {one['stars']:.0f} stars "
                    f"{one['star_flux']:.4f} +- {one['star_flux_scatter']:.4f}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
