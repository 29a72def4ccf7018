"""One bad exposure among good ones: what becomes of it, and whether the products of the others stay what they are."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from cosmosaic.catalog.files import read_catalog
from cosmosaic.geometry.windows import Box
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import FilterPair, GridSettings, SimulationSettings, Survey
from support.damage import EXTENSION_KINDS, HEADER_KINDS, PLANE_KINDS
from support.whole_run import Produced, produce

SIMULATION = SimulationSettings(
    level="cal",
    detectors=("NRCB1",),
    subarray="SUB160",
    filter_pairs=(FilterPair(short="F150W", long="F277W"),),
    dithers_arcsec=((-0.9, -0.8), (0.9, 0.8), (0.1, 0.0), (-0.8, 0.9)),
)
BAD = 2
"""The exposure that is damaged lies between the others."""
KINDS = (*HEADER_KINDS, *PLANE_KINDS, *PLANE_KINDS, *EXTENSION_KINDS)


def simulated_exposures(folder: Path) -> list[Path]:
    """Four exposures of one field."""
    planned = plan_exposures(SIMULATION)
    scene = survey_scene(SIMULATION, planned)
    return [simulate_exposure(frame, scene, SIMULATION, folder)[0] for frame in planned]


def run(frames: list[Path], folder: Path, bad: bytes | None) -> Produced:
    """Make the products of all exposures, one of which is damaged, or of all but that one."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for number, path in enumerate(frames):
        if number != BAD:
            (raw / path.name).symlink_to(path)
        elif bad is not None:
            (raw / path.name).write_bytes(bad)
    pointing = SIMULATION.pointings[0]
    grid = GridSettings(tangent_ra=round(pointing.ra, 2), tangent_dec=round(pointing.dec, 2))
    return produce(Survey(name="field", raw=str(raw), store=str(folder / "store"), grid=grid), folder / "work")


def check(made: Produced, good: Produced, bad: str) -> bool:
    """Whether the bad exposure was accepted, and all is right either way."""
    others = set(made.refused) - {bad}
    assert not others, others
    is_accepted = bad not in made.refused
    assert len(made.members) == 3 + is_accepted
    for name, path in made.files.items():
        if name.endswith(("_i2d.fits", "_crf.fits")):
            check_planes(path)
        elif name.endswith("_cat.parquet"):
            check_catalogue(path)
    if not is_accepted:
        assert made.refused[bad]
        check_equal(made, good)
    return is_accepted


def check_planes(path: Path) -> None:
    with fits.open(path) as hdus:
        sci, err = hdus["SCI"].data, hdus["ERR"].data
        used = hdus["WHT"].data > 0 if "WHT" in hdus else (hdus["DQ"].data & 1) == 0
        assert used.any()
        assert np.isfinite(sci[used]).all()
        assert (err[used & np.isfinite(err)] > 0).all()
        assert not np.isinf(sci).any()
        assert not np.isinf(err).any()
        assert np.abs(sci[used]).max() < 1e6


def check_catalogue(path: Path) -> None:
    table = read_catalog(path)
    for column in ("ra", "dec", "x", "y"):
        assert np.isfinite(table[column]).all()


def check_equal(made: Produced, good: Produced) -> None:
    assert set(made.files) == set(good.files)
    for name, path in made.files.items():
        if name.endswith("_crf.fits"):
            compare(path, good.files[name], ("SCI", "ERR", "DQ"))
        elif name.endswith("_i2d.fits"):
            compare_on_lattice(path, good.files[name])


def compare(path: Path, expected: Path, planes: tuple[str, ...]) -> None:
    with fits.open(path) as hdus, fits.open(expected) as truth:
        for plane in planes:
            np.testing.assert_array_equal(hdus[plane].data, truth[plane].data)


def compare_on_lattice(path: Path, expected: Path) -> None:
    """A window may be larger for the sake of an exposure that was refused after its header was read."""
    with fits.open(path) as hdus, fits.open(expected) as truth:
        box, smaller = (_box(each["SCI"].header) for each in (hdus, truth))
        common = smaller.intersection(box)
        for plane in ("SCI", "ERR", "WHT", "NEXP"):
            np.testing.assert_array_equal(
                hdus[plane].data[common.within(box)], truth[plane].data[common.within(smaller)]
            )
        assert np.count_nonzero(hdus["WHT"].data) == np.count_nonzero(truth["WHT"].data)


def _box(header: fits.Header) -> Box:
    return Box(round(0.5 - header["CRPIX1"]), round(0.5 - header["CRPIX2"]), header["NAXIS1"], header["NAXIS2"])
