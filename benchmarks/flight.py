"""A full-size survey on the geometry of real exposures: stars are where they were put, and as bright.

    python benchmarks/flight.py FOLDER_OF_REAL_MATERIAL [detector ...]

The gwcs of CEERS exposures (ten detectors, two activities, three dithers), in flight and aligned by the team, and the
header of a real calibrated exposure, under simulated pixels; from the calibrated files through the whole run. Printed
are medians of stars with a signal of more than 100 errors: offsets in right ascension and declination, and total flux,
from apertures corrected by the PSF, over the true one. They should be within 2 mas and 1 %. A detector or two are
enough for a quick look.
"""

import copy
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import asdf
import galsim
import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.whole_run import produce
from test_frames import asdf_hdu

from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.exposures.wcs import wcs_corners, with_agreeing_wcs
from cosmosaic.geometry.sphere import directions, footprint_centre, plane_to_sky, sky_to_plane
from cosmosaic.simulate.psf import effective_psf
from cosmosaic.survey import GridSettings, Survey

SIDE = 2048
BANDS = {"long": "F444W", "short": "F150W"}
SKY_MJY_SR, READ_NOISE = 0.25, {"long": 0.02, "short": 0.04}
POISSON_PER_MJY_SR = 2e-3
"""Variance per surface brightness."""
STARS_PER_ARCMIN2 = 60.0
BRIGHTEST_NJY, FAINTEST_NJY = 2e4, 1e3
STAMP = 120
SR_PER_ARCSEC2 = np.radians(1 / 3600) ** 2
MJY_PER_NJY = 1e-15
LEAST_SIGNAL = 100.0
MATCH_ARCSEC = 0.06

Floats = NDArray[np.floating]


def stars_around(corners: list[Floats]) -> tuple[Floats, Floats]:
    """Directions in degrees, shape ``(N, 2)``, and fluxes in nJy of stars over all exposures."""
    generator = np.random.default_rng(1)
    tangent = _middle(corners)
    plane = np.concatenate([sky_to_plane(tangent, each) for each in corners])
    low, high = plane.min(axis=0), plane.max(axis=0)
    number = int(STARS_PER_ARCMIN2 * np.prod((high - low) / 60.0))
    fluxes = np.exp(generator.uniform(np.log(FAINTEST_NJY), np.log(BRIGHTEST_NJY), number))
    return plane_to_sky(tangent, generator.uniform(low, high, (number, 2))), fluxes


def _middle(corners: list[Floats]) -> tuple[float, float]:
    ra, dec = directions(footprint_centre([(float(a), float(b)) for a, b in np.concatenate(corners)]))[0]
    return float(ra), float(dec)


def surface_brightness(wcs: Any, stars: Floats, fluxes: Floats, channel: str) -> Floats:
    """Stars on the pixels of an exposure, MJy/sr."""
    psf = effective_psf(BANDS[channel], 0.063 if channel == "long" else 0.031)
    profile = galsim.InterpolatedImage(galsim.ImageD(psf.image, scale=psf.scale_arcsec), flux=1.0)
    image = np.zeros((SIDE, SIDE))
    tangent = _middle([wcs_corners(wcs, (SIDE, SIDE))])
    x, y = wcs.invert(*stars.T, with_bounding_box=False)
    for column, row, flux in zip(x, y, fluxes, strict=True):
        if not (-STAMP < column < SIDE + STAMP and -STAMP < row < SIDE + STAMP):
            continue
        _draw(image, wcs, tangent, (float(column), float(row)), profile * flux)
    return image


def _draw(
    image: Floats, wcs: Any, tangent: tuple[float, float], place: tuple[float, float], profile: galsim.GSObject
) -> None:
    (column, row), middle = place, np.round(place).astype(int)
    around = np.array([(column, row), (column + 1, row), (column, row + 1)])
    plane = sky_to_plane(tangent, np.stack(wcs(*around.T, with_bounding_box=False), axis=-1))
    dx, dy = plane[1] - plane[0], plane[2] - plane[0]
    jacobian = galsim.JacobianWCS(dx[0], dy[0], dx[1], dy[1])
    offset = galsim.PositionD(column - middle[0], row - middle[1])
    stamp = profile.drawImage(nx=STAMP + 1, ny=STAMP + 1, wcs=jacobian, offset=offset, method="no_pixel").array
    area = abs(dx[0] * dy[1] - dx[1] * dy[0]) * SR_PER_ARCSEC2
    left, bottom = middle - STAMP // 2
    x0, x1, y0, y1 = max(left, 0), min(left + STAMP + 1, SIDE), max(bottom, 0), min(bottom + STAMP + 1, SIDE)
    if x0 < x1 and y0 < y1:
        image[y0:y1, x0:x1] += stamp[y0 - bottom : y1 - bottom, x0 - left : x1 - left] * MJY_PER_NJY / area


def write_exposure(source: Path, template: Path, stars: Floats, fluxes: Floats, folder: Path) -> None:
    """Write a calibrated exposure of the sky with the gwcs of a real one."""
    with asdf.open(source) as tree:
        wcs, info = copy.deepcopy(tree["wcs"]), dict(tree["wcsinfo"])
    _, activity, number, detector = source.name.split("_")[:4]
    channel = "long" if detector.endswith("long") else "short"
    generator = np.random.default_rng([ord(letter) for letter in source.name])
    truth = SKY_MJY_SR + surface_brightness(wcs, stars, fluxes, channel)
    read, poisson = np.full_like(truth, READ_NOISE[channel] ** 2), POISSON_PER_MJY_SR * truth
    sci = truth + generator.normal(0.0, np.sqrt(read + poisson))
    with fits.open(template, memmap=False) as hdus:
        primary, header = hdus[0].header.copy(), hdus["SCI"].header.copy()
    primary.update(
        {"PROGRAM": "01345", "OBSERVTN": "001", "VISIT": "001", "VISITGRP": activity[:2], "SEQ_ID": activity[2],
         "ACT_ID": activity[3:], "EXPOSURE": number, "DETECTOR": detector.upper(), "FILTER": BANDS[channel],
         "PUPIL": "CLEAR", "SUBARRAY": "FULL", "SUBSIZE1": SIDE, "SUBSIZE2": SIDE, "SUBSTRT1": 1, "SUBSTRT2": 1}
    )  # fmt: skip
    header.update({name.upper()[:8]: value for name, value in info.items() if isinstance(value, str | int | float)})
    header["NAXIS1"] = header["NAXIS2"] = SIDE
    planes = {"ERR": np.sqrt(read + poisson), "VAR_POISSON": poisson, "VAR_RNOISE": read, "VAR_FLAT": 0 * read}
    written = [fits.PrimaryHDU(header=primary)]
    written.append(fits.ImageHDU(sci.astype(np.float32), with_agreeing_wcs(wcs, header), name="SCI"))
    written += [fits.ImageHDU(plane.astype(np.float32), name=name) for name, plane in planes.items()]
    written += [fits.ImageHDU(np.zeros((SIDE, SIDE), np.uint32), name="DQ"), asdf_hdu({"meta": {"wcs": wcs}})]
    fits.HDUList(written).writeto(folder / f"{source.name.split('_tweakreg')[0]}_cal.fits", overwrite=True)


def compare(catalogue: Path, stars: Floats, fluxes: Floats, channel: str) -> None:
    """Print how measured stars differ from the true ones."""
    table, band = Table.read(catalogue), BANDS[channel].lower()
    flux, error = (np.ma.filled(table[f"{band}_{name}"].astype(float), np.nan) for name in ("flux", "flux_err"))
    found = np.stack([np.asarray(table["ra"]), np.asarray(table["dec"])], axis=1)
    tangent = (float(stars[0, 0]), float(stars[0, 1]))
    true, measured = sky_to_plane(tangent, stars), sky_to_plane(tangent, found)
    pairs = []
    clean = (np.asarray(table["flags"]) & ~CatalogFlag.PSF_FROM_STARS) == 0
    for index in np.flatnonzero((flux > LEAST_SIGNAL * error) & clean):
        apart = np.hypot(*(true - measured[index]).T)
        if np.sort(apart)[1] > 3.0 and apart.min() < MATCH_ARCSEC:
            pairs.append((index, int(apart.argmin())))
    ours, theirs = np.array(pairs).T
    east, north = 1000 * np.median(measured[ours] - true[theirs], axis=0)
    scatter = 1000 * 1.4826 * np.median(np.abs(measured[ours] - true[theirs]), axis=0)
    ratio = flux[ours] / fluxes[theirs]
    spread = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    print(
        f"{BANDS[channel]}: {len(ours)} stars; offset east {east:+.2f}, north {north:+.2f} mas (scatter "
        f"{scatter[0]:.1f}, {scatter[1]:.1f}); flux over truth {np.median(ratio):.4f} (scatter {spread:.4f})"
    )


def main(real: Path, detectors: list[str]) -> None:
    """Make the exposures and their products, a filter at a time, and compare."""
    warnings.simplefilter("ignore")
    sources = [
        path for path in sorted(real.glob("wcs/*.asdf")) if not detectors or path.name.split("_")[3] in detectors
    ]
    (template,) = real.glob("cal/*_cal.fits")
    corners = []
    for path in sources:
        with asdf.open(path) as tree:
            corners.append(wcs_corners(tree["wcs"], (SIDE, SIDE)))
    stars, fluxes = stars_around(corners)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for channel in BANDS:
            chosen = [path for path in sources if ("long" in path.name.split("_")[3]) == (channel == "long")]
            if not chosen:
                continue
            raw = folder / channel
            raw.mkdir()
            for path in chosen:
                write_exposure(path, template, stars, fluxes, raw)
            grid = GridSettings(pixel_scale_mas=60.0 if channel == "long" else 30.0)
            made = produce(Survey(name="flight", raw=str(raw), grid=grid), folder / f"{channel}-work")
            (mosaic,) = (path for file, path in made.files.items() if file.endswith("_i2d.fits"))
            header = fits.getheader(mosaic, "SCI")
            print(
                f"{len(chosen)} exposures, refused: {made.refused or 'none'}; mosaic of {header['NAXIS1']} x "
                f"{header['NAXIS2']} pixels; verdict: {header['SKYSTATE']}",
                flush=True,
            )
            (catalogue,) = (path for file, path in made.files.items() if file.endswith("_cat.parquet"))
            compare(catalogue, stars, fluxes, channel)
            shutil.rmtree(raw)
            shutil.rmtree(folder / f"{channel}-work")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
