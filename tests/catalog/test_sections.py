"""A window is measured section by section, with every source once."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from support.scenes import Scene, psf_of

from cosmosaic.catalog import sections
from cosmosaic.catalog.files import read_catalog
from cosmosaic.catalog.measure import measure_sources
from cosmosaic.catalog.psf import write_psf
from cosmosaic.catalog.sections import sections_of
from cosmosaic.survey import CatalogSettings


@pytest.mark.parametrize("shape", [(100, 100), (4500, 2100), (9001, 300)])
def test_every_pixel_belongs_to_one_section_and_boxes_are_whole(shape: tuple[int, int]) -> None:
    owners = np.zeros(shape, np.int8)
    for section in sections_of(shape, 200):
        owners[section.own] += 1
        for own, padded, length in zip(section.own, section.padded, shape, strict=True):
            assert padded.start % 200 == 0
            assert padded.start <= max(own.start - 400, 0)
            assert padded.stop >= min(own.stop + 400, length)
    assert (owners == 1).all()


@pytest.mark.parametrize(("length", "parts"), [(1500, 1), (2400, 1), (4096, 3), (5200, 4), (8192, 6)])
def test_windows_are_divided_evenly(length: int, parts: int) -> None:
    divided = list(sections_of((300, length), 200))
    widths = [section.own[1].stop - section.own[1].start for section in divided]
    assert len(widths) == parts
    assert max(widths) - min(widths) < parts * 200
    assert max(section.padded[1].stop - section.padded[1].start for section in divided) <= 2400


def test_boxes_that_are_wide_are_sections_themselves() -> None:
    assert [section.own[1] for section in sections_of((300, 4000), 1200)] == [
        slice(0, 1200), slice(1200, 2400), slice(2400, 3600), slice(3600, 4000)
    ]  # fmt: skip


def test_sections_give_the_catalogue_of_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sky = Scene(shape=(700, 650))
    places = [(35.0 + 61.3 * i + 0.37 * j, 40.0 + 61.7 * j + 0.23 * i) for j in range(11) for i in range(10)]
    for number, (x, y) in enumerate(places):
        sky.add_star(300.0 * (1 + number % 7), x, y)
    sky.add_white_noise()
    sky.remove(slice(0, 200), slice(0, 200))
    mosaics = {"F150W": sky.write(tmp_path / "a_i2d.fits")}
    psfs = {"F150W": write_psf(psf_of(sky), "F150W", tmp_path / "a_psf.fits")}
    settings = CatalogSettings(background_box_arcsec=1.2)
    whole = measure_sources(mosaics, psfs, settings, "whole", tmp_path).files
    monkeypatch.setattr(sections, "PADDED_PIXELS", 520)
    monkeypatch.setattr(sections, "MARGIN_PIXELS", 160)
    parts = measure_sources(mosaics, psfs, settings, "parts", tmp_path).files
    one, many = (read_catalog(files["catalog"]) for files in (whole, parts))
    bright_one, bright_many = (table[table["peak_snr"] > 8] for table in (one, many))
    assert len(bright_one) == len(bright_many) > 90
    order = [int(np.argmin(np.hypot(bright_many["x"] - row["x"], bright_many["y"] - row["y"]))) for row in bright_one]
    assert sorted(order) == list(range(len(bright_one)))
    for name in ("x", "y", "ra", "dec"):
        assert np.asarray(bright_many[name][order]) == pytest.approx(np.asarray(bright_one[name]), abs=2e-3), name
    for name in ("f150w_aper_flux_0p30", "f150w_flux", "f150w_kron_flux"):
        assert np.asarray(bright_many[name][order]) == pytest.approx(np.asarray(bright_one[name]), rel=0.01), name
    segments = fits.getdata(parts["segments"], "SEGM")
    assert len(np.unique(many["id"])) == len(many)
    assert set(np.unique(segments)) - {0} == set(many["id"])
    for row in many:
        assert segments[round(row["y"]), round(row["x"])] in (0, row["id"])
