"""A survey is run again with the sources that its own mosaic showed, and more that its user adds."""

import hashlib

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from support.small_survey import BAND, new_survey

from cosmosaic.cells.source_masks import SourceMaskError
from flows.mosaic import mosaic

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture(scope="module")
def small(simulated, tmp_path_factory):
    """A survey of its own: what other tests published would be remembered."""
    return new_survey(simulated, tmp_path_factory.mktemp("second"))


@pytest.fixture(scope="module")
def passes(small, tmp_path_factory):
    """What a second and a third pass with one mask did; the levels of the first and the second; the mask."""
    assert small.run().state == "Completed"
    first = levels(small)
    (segments,) = small.products.glob("*_segm.fits")
    mask = tmp_path_factory.mktemp("masks") / "deep_segm.fits"
    with fits.open(segments) as hdus:
        # Stripes across the whole field, two cells wide: few sources lie in exposures as small as these.
        rows = np.arange(hdus["SEGM"].shape[0]) % 80 < 40
        hdus["SEGM"].data[rows] = 1
        hdus.writeto(mask)
    again = {"sky": {"source_masks": {BAND: str(mask)}}}
    second = small.run(**again)
    return second, small.run(**again), first, levels(small), mask


def levels(small):
    return QTable.read(small.products / f"small_{BAND.lower()}_sky.ecsv")


def of(labels, step):
    return {label.split(": ")[1] for label in labels if label.startswith(f"{step}: ")}


def test_only_the_sky_and_what_follows_is_done_again(passes):
    second, _, first, _, _ = passes
    names = set(map(str, first["exposure"]))
    assert second.state == "Completed"
    assert of(second.executed, "Masked cells") == names
    for step in ("Calibrate", "Cells"):
        assert of(second.cached, step) == names, step
    assert of(second.executed, "Sky") == {BAND}


def test_all_levels_are_solved_anew_without_the_light_of_sources(passes):
    _, _, first, second, mask = passes
    assert not any(second["kept"])
    assert hashlib.sha256(mask.read_bytes()).hexdigest()[:16] in second.meta["asked"]
    assert set(second["cells_sha256"]).isdisjoint(first["cells_sha256"])
    moved = (second["level"] - first["level"]).value
    errors = np.hypot(first["error"], second["error"]).value
    # Sources cancel in the overlaps, which stay whole under a mask.
    assert 0 < np.abs(moved).max() < 0.02
    assert np.abs(moved / errors).max() < 2
    assert second["error"].value.max() < 0.02


def test_the_same_mask_again_costs_nothing(passes):
    _, third, _, _, _ = passes
    assert third.executed == set()


def test_without_the_mask_all_is_as_it_was(passes, small):
    again = small.run().executed
    # The table of ids was published anew: sources are asked again who they are.
    assert {label.split(":")[0] for label in again} <= {"Ids", "Publish"}
    assert list(levels(small)["level"]) == list(passes[2]["level"])


def test_a_product_that_the_run_would_replace_is_refused(passes, small):
    (segments,) = small.products.glob("*_segm.fits")
    with pytest.raises(SourceMaskError, match=r"_segm\.fits: .*copy it"):
        mosaic(small.survey(sky={"source_masks": {BAND: str(segments)}}))


def test_a_mask_of_another_field_is_refused_before_anything_is_done(passes, small, tmp_path):
    far = tmp_path / "far_segm.fits"
    with fits.open(passes[4]) as hdus:
        hdus["SEGM"].header["CRVAL1"] += 0.5
        hdus.writeto(far)
    with pytest.raises(SourceMaskError, match=r"far_segm\.fits: reaches none of 3 exposures.* check its WCS"):
        mosaic(small.survey(sky={"source_masks": {BAND: str(far)}}))
