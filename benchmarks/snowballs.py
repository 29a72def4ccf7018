"""Snowballs: light that they leave in count rates and what their flags cost, in ramps with and without them.

    python benchmarks/snowballs.py --json snowballs.json --work benchmark-snowballs

A full frame of 120 stars of magnitudes 15.5 to 23 is simulated twice with the same noise, with snowballs at the rate of
the flight and without any. Each ramp is calibrated with ``expand_large_events`` off and on. What the snowballs leave is
the difference of the count rates of both ramps; what flags cost is measured in the ramp without snowballs, where every
flag is false.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.dq import border, is_usable
from cosmosaic.simulate.geometry import exposure_shape, nominal_view, pixel_to_sky, sky_to_pixel, true_view
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.survey import simulate_survey
from cosmosaic.survey import ExposureSettings, FilterPair, SimulationSettings

DETECTOR, BAND = "NRCB1", "F150W"
STARS = 120
MAGNITUDES = (15.5, 23.0)
APERTURE_PIXELS = 5.0
HALO_ELECTRONS = 1000.0
"""Pixels with less charge of a snowball are its halo."""
BRIGHT_DN_S = 1.0
"""Pixels that a snowball makes brighter than this have the charge itself in their count rate."""
EDGE_PIXELS = 25
"""Width of jwst's ``edge_size``, where it asks for no saturated core."""

Image = NDArray[np.float32]


def settings_of(arguments: argparse.Namespace, per_s: float) -> SimulationSettings:
    """Return the simulated survey: one exposure."""
    return SimulationSettings(
        subarray=arguments.subarray,
        groups=arguments.groups,
        detectors=(DETECTOR,),
        dithers_arcsec=((0.4, 0.3),),
        filter_pairs=(FilterPair(short=BAND, long="F277W"),),
        catalog=str(arguments.work / "stars.csv"),
        snowballs_per_s=per_s,
    )


def write_stars(exposure: PlannedExposure, path: Path) -> None:
    """Write a catalogue of stars all over the detector."""
    generator = np.random.default_rng(1)
    ny, nx = exposure_shape(exposure)
    ra, dec = pixel_to_sky(
        exposure, nominal_view(exposure), generator.uniform(8, nx - 9, STARS), generator.uniform(8, ny - 9, STARS)
    )
    columns = {"ra": ra, "dec": dec, "kind": ["star"] * STARS}
    Table(columns | {f"mag_{BAND}": generator.uniform(*MAGNITUDES, STARS)}).write(path, overwrite=True)


def calibrate(ramp: Path, settings: ExposureSettings, target: Path) -> Path:
    """Make the count rate of a ramp."""
    from cosmosaic.calibrate.stages import count_rate
    from cosmosaic.provenance import save_model

    target.mkdir(exist_ok=True)
    start = time.process_time()
    rate = count_rate(ramp, None, settings, DETECTOR)
    print(target.name, f"{time.process_time() - start:.1f} CPU s", flush=True)
    return save_model(rate, target / ramp.name.replace("_uncal.fits", "_rate.fits"))


def read_rate(path: Path) -> tuple[Image, Image, NDArray[np.bool_]]:
    """Return count rate, error and usable pixels."""
    with fits.open(path) as hdus:
        sci, err, dq = (hdus[name].data for name in ("SCI", "ERR", "DQ"))
    return sci, err, is_usable(sci, err, dq)


def left_by_snowballs(with_any: Path, without: Path, charge: Image) -> dict[str, float]:
    """Compare the count rates of both ramps, calibrated alike; in units of the errors of the first."""
    sci, err, usable = read_rate(with_any)
    expected, _, before = read_rate(without)
    both = usable & before
    excess = np.where(both, sci - expected, 0)
    pull = excess / np.where(both, err, 1)
    halo = both & (charge > 0) & (charge < HALO_ELECTRONS)
    return {
        "halo_pixels": int(halo.sum()),
        "halo_light_dn_s": float(excess[halo].sum()),
        "halo_mean_pull": float(pull[halo].mean()),
        "halo_pixels_off_by_2_sigma": int((halo & (np.abs(pull) > 2)).sum()),
        "bright_pixels": int((excess > BRIGHT_DN_S).sum()),
        "bright_light_dn_s": float(excess[excess > BRIGHT_DN_S].sum()),
        "pixels_lost": int(np.sum(before & ~usable)),
    }


def cost_of_flags(flagged: Path, without_flags: Path, stars: NDArray[np.bool_], each: list) -> dict[str, float]:
    """Compare the count rates of the ramp without snowballs, with and without flags."""
    sci, err, usable = read_rate(flagged)
    expected, noise, before = read_rate(without_flags)
    both = usable & before
    changed = both & ((sci != expected) | (err != noise)) | (before & ~usable)
    fluxes = [float(sci[one & both].sum() / expected[one & both].sum()) for one in each]
    edge = border(sci.shape, EDGE_PIXELS)

    def variance(where: NDArray[np.bool_]) -> float:
        chosen = where & both
        return float(np.mean(err[chosen].astype(float) ** 2) / np.mean(noise[chosen].astype(float) ** 2))

    return {
        "star_pixels": int((stars & before).sum()),
        "star_pixels_flagged": int((stars & changed).sum()),
        "star_pixels_lost": int((stars & before & ~usable).sum()),
        "star_flux_ratio_median": float(np.median(fluxes)),
        "star_flux_ratio_worst": float(max(fluxes, key=lambda ratio: abs(ratio - 1))),
        "star_variance_ratio": variance(stars),
        "pixels_flagged_fraction": float(changed.sum() / before.sum()),
        "variance_ratio_edge": variance(edge & ~stars),
        "variance_ratio_inside": variance(~edge & ~stars),
    }


def main() -> None:
    """Simulate, calibrate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("snowballs.json"))
    parser.add_argument("--work", type=Path, default=Path("benchmark-snowballs"))
    parser.add_argument("--subarray", default="FULL", choices=("FULL", "SUB640", "SUB320"))
    parser.add_argument("--groups", type=int, default=6)
    parser.add_argument("--engine", default="fused", choices=("fused", "jwst"))
    parser.add_argument("--snowballs-per-s", type=float, default=0.05)
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)

    (exposure,) = plan_exposures(settings_of(arguments, 0.0))
    stars = arguments.work / "stars.csv"
    write_stars(exposure, stars)
    ramps = {}
    for name, per_s in (("with", arguments.snowballs_per_s), ("without", 0.0)):
        (ramps[name],) = simulate_survey(settings_of(arguments, per_s), arguments.work / name, stars)
    crds = {"CRDS_CONTEXT": SIMULATED_CONTEXT, "CRDS_READONLY_CACHE": "1", "STPIPE_DISABLE_CRDS_STEPPARS": "true"}
    os.environ.update(crds, CRDS_PATH=str(arguments.work / "with" / "crds"))
    rates = {
        (name, flags): calibrate(
            ramp,
            ExposureSettings(engine=arguments.engine, expand_large_events=flags),
            arguments.work / f"{name}_{'on' if flags else 'off'}",
        )
        for name, ramp in ramps.items()
        for flags in (False, True)
    }

    with fits.open(arguments.work / "with" / "truth" / f"{exposure.name}_truth.fits") as hdus:
        charge = hdus["SNOWBALLS"].data
    table = Table.read(stars)
    x, y = sky_to_pixel(exposure, true_view(exposure), table["ra"], table["dec"])
    row, column = np.indices(charge.shape)
    each = [np.hypot(column - x[star], row - y[star]) < APERTURE_PIXELS for star in range(STARS)]
    report = {
        "settings": {name: str(value) for name, value in vars(arguments).items() if name not in ("json", "work")},
        "left": {
            "off" if not flags else "on": left_by_snowballs(rates["with", flags], rates["without", flags], charge)
            for flags in (False, True)
        },
        "cost": cost_of_flags(rates["without", True], rates["without", False], np.any(each, axis=0), each),
    }
    arguments.json.write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
