"""A window larger than memory: one filter at a time, and the segmentation map on disk."""

import gc
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
from support.scenes import Scene, psf_of

from cosmosaic.catalog import sections
from cosmosaic.catalog.image import MosaicImage, MosaicSet, Part
from cosmosaic.catalog.measure import measure_sources
from cosmosaic.catalog.psf import write_psf
from cosmosaic.catalog.segments import DiskPlane
from cosmosaic.survey import CatalogSettings

BANDS = ("F150W", "F277W", "F444W")


@pytest.mark.slow
def test_no_two_filters_are_in_memory_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sky = Scene(shape=(300, 260))
    for x, y in ((50, 50), (150, 50), (50, 150), (150, 250)):
        sky.add_star(1000.0, x, y)
    sky.add_white_noise()
    mosaics = {band: sky.write(tmp_path / f"{band}_i2d.fits") for band in BANDS}
    psfs = {band: write_psf(psf_of(sky), band, tmp_path / f"{band}_psf.fits") for band in BANDS}
    seen, others, read = list[weakref.ref[MosaicImage]](), list[int](), MosaicSet.read_band

    def watched(self: MosaicSet, band: str, part: Part) -> MosaicImage:
        others.append(sum(each() is not None for each in seen))
        image = read(self, band, part)
        seen.append(weakref.ref(image))
        return image

    monkeypatch.setattr(MosaicSet, "read_band", watched)
    monkeypatch.setattr(sections, "PADDED_PIXELS", 240)
    monkeypatch.setattr(sections, "MARGIN_PIXELS", 80)
    made = measure_sources(mosaics, psfs, CatalogSettings(background_box_arcsec=1.2), "demo", tmp_path)
    assert made.facts["n_sources"] >= 4
    assert len(others) >= 2 * 2 * len(BANDS)
    assert set(others) == {0}


def test_a_map_keeps_what_was_written_to_its_parts(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).integers(0, 9, (70, 50)).astype(np.int32)
    stored = DiskPlane(numbers.shape, np.int32, tmp_path)
    assert not stored[:].any()
    for part in ((slice(0, 40), slice(0, 50)), (slice(40, 70), slice(10, 50)), (slice(40, 70), slice(0, 10))):
        stored[part] = numbers[part]
    np.testing.assert_array_equal(stored[35:45], numbers[35:45])
    np.testing.assert_array_equal(stored[slice(20, 60), slice(5, 30)], numbers[20:60, 5:30])


def test_the_file_of_a_map_is_closed_with_it(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        stored = DiskPlane((70, 50), np.int32, tmp_path)
        assert not stored[:].any()
        del stored
        gc.collect()
    assert [str(each.message) for each in told] == []
