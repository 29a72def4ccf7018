"""Pixels in which earlier exposures persist are flagged, and stars keep their light, by the truth of a simulation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.artefacts.persistence import BrightPixels, flag_persistence, list_bright, mean_current, read_bright
from cosmosaic.artefacts.steps import PERSISTENCE_WINDOW_S
from cosmosaic.dq import UNUSABLE
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.order import Earlier, earlier_exposures
from cosmosaic.simulate.geometry import pixel_to_sky, true_view
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.survey import simulate_exposure
from cosmosaic.survey import ExposureSettings, FilterPair, SimulationSettings

SURVEY = SimulationSettings(
    level="cal",
    detectors=("NRCB1",),
    subarray="SUB160",
    readout_pattern="MEDIUM8",
    groups=20,
    filter_pairs=(FilterPair(short="F150W", long="F277W"), FilterPair(short="F200W", long="F444W")),
    dithers_arcsec=((-0.9, -0.6), (0.7, 0.8)),
    persistence_dn_s=0.15,
)
DN_S = ExposureSettings().persistence_dn_s


def stars() -> Table:
    """Forty stars, a few of which saturate the pixels that they fall on."""
    generator = np.random.default_rng(3)
    first = plan_exposures(SURVEY)[0]
    ra, dec = pixel_to_sky(first, true_view(first), *generator.uniform(-30, 190, (2, 40)))
    flux = 10 ** ((31.4 - generator.uniform(14.5, 21, 40)) / 2.5)
    table = Table({"ra": ra, "dec": dec, "kind": ["star"] * 40})
    for name in ("half_light_radius", "sersic_n", "axis_ratio", "position_angle", "pmra", "pmdec"):
        table[name] = 0.0
    for band in ("F150W", "F200W"):
        table[f"flux_{band}"] = flux
    return table


class Persisting:
    """A survey whose exposures persist, calibrated, and what each left in the next ones."""

    def __init__(self, folder: Path) -> None:
        self.cals: dict[str, Path] = {}
        self.left: dict[str, np.ndarray] = {}
        scene = stars()
        for plan in plan_exposures(SURVEY):
            cal, truth = simulate_exposure(plan, scene, SURVEY, folder)
            self.cals[plan.name], self.left[plan.name] = cal, fits.getdata(truth, "PERSISTENCE")
        exposures = [describe_exposure(str(cal)) for cal in self.cals.values()]
        self.earlier = earlier_exposures(exposures, PERSISTENCE_WINDOW_S)
        self.seconds = exposures[0].exposure_time
        self.bright = {name: list_bright(cal, folder).files["bright"] for name, cal in self.cals.items()}

    def flagged(self, folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Name, usable pixels, those newly flagged among them, and light of stars over error of all, by exposure."""
        for name, cal in self.cals.items():
            made = flag_persistence(cal, self.bright, self.earlier[name], self.seconds, DN_S, folder)
            with fits.open(cal) as before, fits.open(made.files["cal"]) as after:
                usable = (before["DQ"].data & UNUSABLE) == 0
                new = usable & ((after["DQ"].data & pixel["PERSISTENCE"]) > 0)
                assert (after["DQ"].data[new] & pixel["DO_NOT_USE"]).all()
                np.testing.assert_array_equal(after["DQ"].data[~new], before["DQ"].data[~new])
                np.testing.assert_array_equal(after["SCI"].data, before["SCI"].data)
                assert made.facts["persistence_pixels"] == new.sum()
                yield name, usable, new, (before["SCI"].data - self.left[name]) / before["ERR"].data


@pytest.fixture(scope="module")
def persisting(tmp_path_factory: pytest.TempPathFactory) -> Persisting:
    return Persisting(tmp_path_factory.mktemp("persisting"))


def test_what_earlier_exposures_left_is_flagged_and_stars_keep_their_light(
    persisting: Persisting, tmp_path: Path
) -> None:
    found = {name: rest for name, *rest in persisting.flagged(tmp_path)}
    (first, *later) = found
    assert not persisting.left[first].any()
    assert not found[first][1].any()
    for name in later:
        usable, new, signal = found[name]
        error = fits.getdata(persisting.cals[name], "ERR")
        strong = usable & (persisting.left[name] > error)
        assert strong.sum() > 10
        assert np.mean(new[strong]) > 0.95
        dark = usable & (signal < 10)
        assert persisting.left[name][dark & ~new].sum() < 0.15 * persisting.left[name][dark].sum()
        stars = usable & (signal > 30)
        assert signal[stars & new].sum() < 0.02 * signal[stars].sum()
        assert signal[stars & new & ~strong].sum() < 0.003 * signal[stars].sum()
        assert np.mean(new[usable & (persisting.left[name] < 0.1 * error)]) < 0.01


def test_the_table_has_a_row_for_each_earlier_exposure(persisting: Persisting, tmp_path: Path) -> None:
    *_, last = persisting.cals
    lost, *known = (one.name for one in persisting.earlier[last])
    bright = {name: persisting.bright[name] for name in known}
    made = flag_persistence(persisting.cals[last], bright, persisting.earlier[last], persisting.seconds, DN_S, tmp_path)
    table = QTable.read(made.files["table"])
    assert list(table["earlier"]) == known
    assert table.meta["unknown"] == [lost]
    assert made.facts["persistence_unknown"] == 1
    assert made.facts["persistence_exposures"] == len(known) == 2
    assert (table["bright"] >= table["flagged"]).all()
    assert table["flagged"].max() > 0


def moved(cal: Path, folder: Path, **keywords: object) -> Path:
    """A copy of an exposure with other keywords; None removes one."""
    path = folder / cal.name
    with fits.open(cal) as hdus:
        for keyword, value in keywords.items():
            header = hdus["SCI"].header if keyword == "PHOTMJSR" else hdus[0].header
            if value is None:
                del header[keyword]
            else:
                header[keyword] = value
        hdus.writeto(path)
    return path


def test_pixels_are_followed_on_the_detector_from_one_subarray_to_another(
    persisting: Persisting, tmp_path: Path
) -> None:
    (name, cal), *_ = persisting.cals.items()
    column, row = (fits.getval(cal, keyword) for keyword in ("SUBSTRT1", "SUBSTRT2"))
    shifted = moved(cal, tmp_path, SUBSTRT1=column + 40, SUBSTRT2=row + 30)
    (tmp_path / "out").mkdir()
    earlier = (Earlier(name=name, gap_s=60.0),)
    made = flag_persistence(shifted, persisting.bright, earlier, persisting.seconds, 100.0, tmp_path / "out")
    bright = read_bright(persisting.bright[name])
    rows, columns = bright.rows - (row + 30 - 1), bright.columns - (column + 40 - 1)
    inside = (rows >= 0) & (rows < 160) & (columns >= 0) & (columns < 160)
    assert 0 < inside.sum() < inside.size
    with fits.open(cal) as before, fits.open(made.files["cal"]) as after:
        flagged = (after["DQ"].data & pixel["PERSISTENCE"]) > 0
        expected = np.zeros_like(flagged)
        expected[rows[inside], columns[inside]] = True
        np.testing.assert_array_equal(flagged, expected & ((before["DQ"].data & UNUSABLE) == 0))


def test_what_a_full_pixel_leaves_falls_with_the_time() -> None:
    one = np.ones(1, dtype=np.float32)
    assert mean_current(one, 990.0, 20.0) == pytest.approx(1.0, rel=1e-3)
    assert mean_current(one, 1999.0, 2.0) == pytest.approx(0.5, rel=0.01)
    assert mean_current(one, 0.0, 100.0) == mean_current(one, 10.0, 100.0)


def test_saturated_pixels_are_full_whatever_their_count_rate(persisting: Persisting) -> None:
    for name, cal in persisting.cals.items():
        with fits.open(cal) as hdus:
            saturated = (hdus["DQ"].data & pixel["SATURATED"]) > 0
            column, row = (hdus[0].header[keyword] - 1 for keyword in ("SUBSTRT1", "SUBSTRT2"))
        bright: BrightPixels = read_bright(persisting.bright[name])
        full = np.zeros(saturated.shape, dtype=bool)
        full[bright.rows - row, bright.columns - column] = bright.fill == 1
        assert saturated.sum() > 10
        assert full[saturated].all()


@pytest.mark.parametrize(
    ("keyword", "value"), [("PHOTMJSR", None), ("PHOTMJSR", -1.0), ("SUBSTRT2", None), ("SUBSTRT1", "left")]
)
def test_an_exposure_that_cannot_be_followed_is_named(
    persisting: Persisting, tmp_path: Path, keyword: str, value: object
) -> None:
    (cal, *_) = persisting.cals.values()
    damaged = moved(cal, tmp_path, **{keyword: value})
    with pytest.raises(ValueError, match=rf"{cal.name}.*{keyword}.*persistence off"):
        list_bright(damaged, tmp_path)
