"""What the user has drawn regions around is not used, on the sky or in an exposure's own pixels."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from real import real
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.artefacts.regions import mask_regions
from cosmosaic.drizzle.exposure import read_exposure
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.exposures.regions import RegionError, check_regions, read_regions
from cosmosaic.survey import Survey

SHAPE = (100, 100)


@pytest.fixture(scope="module")
def cal() -> Path:
    return real("cal/*_cal.fits")


@pytest.fixture(scope="module")
def sky(cal: Path) -> SkyCoord:
    """Direction of each pixel, shape ``(100, 100)``."""
    rows, columns = np.indices(SHAPE)
    return SkyCoord(*read_exposure(cal).wcs(columns, rows), unit="deg")


def masked(cal: Path, folder: Path, *texts: str) -> np.ndarray:
    """Which pixels are flagged by regions, and by nothing else."""
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.reg")
        files[-1].write_text(text)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    made = mask_regions(cal, tuple(files), out)
    with fits.open(cal) as before, fits.open(made.files["cal"]) as after:
        old, new = before["DQ"].data, after["DQ"].data
        assert [hdu.name for hdu in before] == [hdu.name for hdu in after]
        for name in ("SCI", "ERR", "ASDF"):
            assert before[name].data.tobytes() == after[name].data.tobytes()
        inside = (new & pixel["OTHER_BAD_PIXEL"]) > (old & pixel["OTHER_BAD_PIXEL"])
        assert (new[inside] & pixel["DO_NOT_USE"]).all()
        np.testing.assert_array_equal(new[~inside], old[~inside])
        assert made.facts["region_pixels"] == np.count_nonzero(inside & ((old & pixel["DO_NOT_USE"]) == 0))
    return inside


def at(sky: SkyCoord, row: int, column: int) -> str:
    return f"{sky[row, column].ra.deg:.9f},{sky[row, column].dec.deg:.9f}"


def test_a_circle_on_the_sky_flags_the_pixels_whose_centres_are_in_it(cal: Path, sky: SkyCoord, tmp_path: Path) -> None:
    inside = masked(cal, tmp_path, f'icrs\ncircle({at(sky, 30, 60)},0.7")')
    distance = sky.separation(sky[30, 60]).arcsec
    assert inside[distance < 0.699].all()
    assert not inside[distance > 0.701].any()
    assert inside.sum() > 300


def test_any_frame_of_the_sky_will_do(cal: Path, sky: SkyCoord, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    place = sky[30, 60].galactic
    first = masked(cal, tmp_path, f'icrs\ncircle({at(sky, 30, 60)},0.7")')
    second = masked(cal, tmp_path / "a", f'galactic\ncircle({place.l.deg:.9f},{place.b.deg:.9f},0.7")')
    assert np.count_nonzero(first != second) <= 4


def test_a_polygon_holds_what_lies_between_its_corners(cal: Path, sky: SkyCoord, tmp_path: Path) -> None:
    corners = ",".join(at(sky, row, column) for row, column in ((20, 10), (20, 50), (70, 50), (70, 10)))
    inside = masked(cal, tmp_path, f"fk5\npolygon({corners})")
    assert inside[22:69, 12:49].all()
    inside[19:72, 9:52] = False
    assert not inside.any()


def test_image_pixels_are_counted_from_one_as_in_ds9(cal: Path, tmp_path: Path) -> None:
    inside = masked(cal, tmp_path, "image\nbox(11,31,5,3,0)")
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 31, 8, 12)
    assert inside.sum() == 15


def test_an_excluded_region_takes_away_from_all(cal: Path, sky: SkyCoord, tmp_path: Path) -> None:
    text = f'image\n-circle(51,51,4.2)\n-circle(300,300,9)\nicrs\ncircle({at(sky, 50, 50)},1.2")'
    inside = masked(cal, tmp_path, text, "image\nbox(51,51,3,3,0)")
    assert not inside[50, 50]
    assert inside[50, 58]
    near = sky.separation(sky[50, 50]).arcsec < 1.2
    assert inside.sum() == pytest.approx(near.sum() - np.pi * 4.2**2, abs=8)


def test_regions_that_lie_elsewhere_change_nothing(cal: Path, tmp_path: Path) -> None:
    inside = masked(cal, tmp_path, 'icrs\ncircle(150,2,5")\nellipse(14.8,-71,3",2",10)\npolygon(200,80,201,80,200,81)')
    assert not inside.any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no region"),
        ("hello", "hello"),
        ('icrs\npanda(150,2,0,90,2,0",10",1)', "panda.*circle, ellipse"),
        ("physical\ncircle(5,5,3)", "physical"),
        ("circle(3,3,2)", "coordinate frame"),
        ("fk5\nline(150.1,2.2,150.2,2.3)", "line has no area; draw a box"),
        ("image\npoint(5,5)", "point has no area"),
        ('icrs\ncircle(150,2,5")\nicrs\ncircle(150,2', "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(RegionError, match=rf"(?s)regions: claws\.reg.*{words}"):
        read_regions(text, "claws.reg")


def test_regions_are_checked_before_the_work(cal: Path, sky: SkyCoord, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.reg" for name in ("good", "far", "bad")}
    files["good"].write_text(f'icrs\ncircle({at(sky, 30, 60)},0.7")\nimage\nbox(5,5,3,3,0)')
    files["far"].write_text(f'icrs\ncircle({at(sky, 30, 60)},0.7")\nellipse(14.8,-71,3",2",10)')
    files["bad"].write_text("hello")
    exposure = describe_exposure(str(cal))

    def told(**given: str) -> tuple[str, ...]:
        regions = {pattern.replace("any", "*"): str(files[name]) for pattern, name in given.items()}
        return check_regions(Survey(raw="raw", regions=regions), [exposure])

    assert told(any="good") == ()
    (far,) = told(any="far")
    assert "the ellipse at RA 14.8" in far
    (unused,) = told(jw99="good")
    assert "jw99 matches no exposure" in unused
    with pytest.raises(RegionError, match=r"bad\.reg"):
        told(any="bad")
    with pytest.raises(FileNotFoundError):
        check_regions(Survey(raw="raw", regions={"*": str(tmp_path / "none.reg")}), [exposure])


def test_one_pixel_east_is_one_pixel_east(cal: Path, sky: SkyCoord, tmp_path: Path) -> None:
    """A box turns with the sky, not with the detector."""
    centre = sky[50, 50]
    inside = masked(cal, tmp_path, f'icrs\nbox({at(sky, 50, 50)},2",0.4",0)')
    east, north = (offset.to_value(u.arcsec) for offset in centre.spherical_offsets_to(sky))
    within = (np.abs(east) < 0.99) & (np.abs(north) < 0.19)
    assert inside[within].all()
    assert not inside[(np.abs(east) > 1.01) | (np.abs(north) > 0.21)].any()
