"""A star that was brighter in one exposure is flagged in the catalogue; one that was constant is not."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from support.one_bad_frame import BAD, run, simulated_exposures

from cosmosaic.catalog.files import read_catalog
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.drizzle.exposure import read_exposure
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.geometry.sphere import directions, footprint_centre

STAR_SIGMA_PIXELS, PEAK_MJY_SR = 1.2, 20.0
BRIGHTER = 4.0
MIDDLE = 2
"""All frames see the middle of this one."""
ARCSEC_NORTH = {"variable": 0.6, "constant": -0.6}


def place(frame: Path, star: str) -> SkyCoord:
    centre = footprint_centre(describe_exposure(str(frame)).footprint)
    ra, dec = directions(centre)[0]
    return SkyCoord(ra, dec + ARCSEC_NORTH[star] / 3600, unit="deg")


def add_star(frame: Path, sky: SkyCoord, peak: float) -> None:
    """Add a round star to a calibrated exposure."""
    column, row = read_exposure(frame).wcs.invert(sky.ra.deg, sky.dec.deg)
    with fits.open(frame, mode="update") as hdus:
        rows, columns = np.indices(hdus["SCI"].shape)
        apart2 = (columns - column) ** 2 + (rows - row) ** 2
        hdus["SCI"].data += (peak * np.exp(-0.5 * apart2 / STAR_SIGMA_PIXELS**2)).astype(np.float32)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> QTable:
    frames = simulated_exposures(tmp_path_factory.mktemp("frames"))
    for number, frame in enumerate(frames):
        add_star(frame, place(frames[MIDDLE], "constant"), PEAK_MJY_SR)
        add_star(frame, place(frames[MIDDLE], "variable"), PEAK_MJY_SR * (BRIGHTER if number == 1 else 1.0))
    made = run(frames, tmp_path_factory.mktemp("run"), frames[BAD].read_bytes())
    (path,) = (path for name, path in made.files.items() if name.endswith("_cat.parquet"))
    table = QTable(read_catalog(path))
    table.meta["places"] = {star: place(frames[MIDDLE], star) for star in ARCSEC_NORTH}
    return table


@pytest.mark.parametrize(("star", "is_flagged"), [("variable", True), ("constant", False)])
def test_only_the_star_that_varied_is_flagged(catalogue: QTable, star: str, is_flagged: bool) -> None:
    apart = catalogue.meta["places"][star].separation(SkyCoord(catalogue["ra"], catalogue["dec"])).arcsec
    assert apart.min() < 0.05
    flags = int(catalogue["flags"][apart.argmin()])
    assert bool(flags & CatalogFlag.REJECTED) == is_flagged
