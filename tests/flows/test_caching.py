"""What changes is made again, with all that follows from it and nothing else; what was made is never believed blindly.

Each test changes one thing in a finished survey and names the steps that ran.
"""

import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from support.small_survey import BAND

from cosmosaic.preview.steps import DrawMosaic
from tasks.runtime.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.server]

VISIT = "01727001001"

OF_THE_BAND = {
    f"Association: {BAND}",
    f"Members: {BAND}",
    f"Sky: {BAND}",
    f"Mosaic: {BAND}",
    f"Depth: {BAND}",
    f"PSF: {BAND}",
    "Catalogue: full",
    "Ids: small",
    "Publish: ids",
    "Catalogue with ids: full",
    "EAZY: small",
    "Publish: EAZY",
    "Publish: catalogue full",
    f"Preview: {BAND}",
    *(f"Verdict on exposures: {BAND} {when}" for when in ("before", "after", "noise")),
    f"Verdict: {BAND}",
    f"Defects: {BAND}",
    "Census: full",
    f"Catalogue page: {BAND}",
    "Publish: catalogue page",
    f"Sky page: {BAND}",
    "Publish: sky page",
    f"Composite: {BAND}",
    f"Publish: {BAND}",
    f"Publish: {BAND} sky",
    f"Publish: {BAND} visit {VISIT}",
    "Publish: colour picture",
}


@pytest.fixture
def settled(small):
    """The survey as it was, whatever a test before made of its products."""
    assert small.run().state == "Completed"
    return small


def names(small):
    return [path.name.removesuffix("_uncal.fits") for path in small.frames]


def every(small, step):
    return {f"{step}: {name}" for name in names(small)}


def calibrated(small):
    """The steps that make exposures which others can depend on."""
    return every(small, "Calibrate") | every(small, "Inspect")


def tiles(observed, step):
    """The steps of one kind that are done once per tile."""
    return {label for label in observed.executed | observed.cached if label.startswith(f"{step}: {BAND} ")}


def combination(small):
    """All steps from calibrated exposures to products."""
    observed = small.run()
    per_tile = tiles(observed, "Reference") | tiles(observed, "Combine")
    assert len(per_tile) >= 2
    assert tiles(observed, "Verdict on tiles")
    per_tile |= tiles(observed, "Verdict on tiles")
    per_frame = {label for step in ("Aberration", "Cells", "Drizzle", "Outliers") for label in every(small, step)}
    return OF_THE_BAND | per_tile | per_frame


PAGE = {"Census: full", f"Catalogue page: {BAND}", "Publish: catalogue page"}

EQUAL_BYTES = {
    f"Members: {BAND}",
    f"Verdict: {BAND}",
    f"Publish: {BAND} sky",
    f"Sky page: {BAND}",
    "Publish: sky page",
    f"Catalogue page: {BAND}",
    "Publish: catalogue page",
    "Publish: colour picture",
    "Ids: small",
    "Publish: ids",
    "Catalogue with ids: full",
    "EAZY: small",
    "Publish: EAZY",
    "Publish: catalogue full",
}
"""Steps that stay as they are where neither raw exposures nor flags nor any pixel of 8 bits change, besides those that
judge."""


def but_picture(labels):
    """Leave out what equal bytes may spare."""
    return {label for label in labels - EQUAL_BYTES if not label.startswith("Verdict on ")}


def restore(path, content):
    path.write_bytes(content)


def test_a_second_run_executes_nothing_and_nothing_becomes_a_task_run(small, monkeypatch):
    submitted, submit = [], Run._submit

    def noted(run, node, *arguments):
        submitted.append(node.label)
        submit(run, node, *arguments)

    monkeypatch.setattr(Run, "_submit", noted)
    first = small.run()
    assert sorted(submitted) == sorted(first.executed)
    assert first.executed | first.cached == calibrated(small) | combination(small)
    second = small.run()
    assert (second.state, second.executed, second.failed) == ("Completed", set(), {})
    assert second.cached == first.executed | first.cached
    assert len(submitted) == len(first.executed)


def test_a_parameter_of_the_catalogue_runs_the_catalogue_alone(settled):
    changed = settled.run(catalog={"threshold_sigma": 5.0})
    numbered = {"Ids: small", "Publish: ids", "Catalogue with ids: full", "EAZY: small", "Publish: EAZY"}
    assert changed.executed == {"Catalogue: full", "Publish: catalogue full"} | numbered | PAGE


def test_a_map_of_extinction_measures_nothing_again(settled):
    header = {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRPIX1": 180.5, "CRPIX2": 90.5, "CDELT1": -1, "CDELT2": 1}
    image = fits.PrimaryHDU(np.full((180, 360), 0.02), header=fits.Header(header | {"CRVAL1": 0, "CRVAL2": 0}))
    image.writeto(settled.folder / "ebv.fits", overwrite=True)
    changed = settled.run(catalog={"extinction_map": str(settled.folder / "ebv.fits")})
    written = {"Catalogue with ids: full", "EAZY: small"}
    assert changed.executed == {*written, "Census: full", "Publish: catalogue full", "Publish: EAZY"}
    assert np.asarray(Table.read(settled.products / "small_full_cat.ecsv")["ebv"]) == pytest.approx(0.02)


def test_a_damaged_table_of_ids_stops_the_catalogue_alone_and_is_left_as_it_is(settled):
    table = settled.products / "small_ids.ecsv"
    content, damaged = table.read_bytes(), table.read_bytes()[:-40]
    try:
        table.write_bytes(damaged)
        failed = settled.run()
        assert failed.state == "Failed in part"
        assert "small_ids.ecsv among the products cannot be used" in failed.failed["Ids: small"]
        needed = {"Publish: ids", "Catalogue with ids: full", "Publish: catalogue full", "EAZY: small", "Publish: EAZY"}
        assert set(failed.failed) == {"Ids: small"} | needed | PAGE
        assert table.read_bytes() == damaged
    finally:
        restore(table, content)
    assert settled.run().executed == set()


def test_a_parameter_of_the_drizzle_leaves_calibration_and_sky_alone(settled):
    sky = {f"Sky: {BAND}"} | every(settled, "Cells")
    expected = combination(settled) - {f"Association: {BAND}"} - sky - every(settled, "Aberration")
    assert but_picture(settled.run(drizzle={"pixfrac": 0.9}).executed) == but_picture(expected)


@pytest.mark.parametrize("engine", ["tiles", "jwst"])
def test_edges_and_stripes_leave_the_exposures_that_are_combined(settled, engine):
    settings = {"engine": "jwst", "drizzle": {"weight_type": "ivm"}} if engine == "jwst" else {}
    before = settled.run(**settings)
    trimmed = settled.run(**settings, sky={"trim_pixels": 8})
    striped = settled.run(**settings, sky={"slow_stripes": False})
    assert crf_of(trimmed) != crf_of(before) != crf_of(striped)
    unmeasured = {f"Sky: {BAND}"} | every(settled, "Cells")
    assert not trimmed.executed & unmeasured
    assert striped.executed & unmeasured <= {f"Sky: {BAND}"}
    if engine == "tiles":
        assert every(settled, "Drizzle") | every(settled, "Outliers") <= trimmed.executed & striped.executed


def crf_of(observed):
    """Bytes of the pixels of the first exposure that went into the mosaic."""
    (path, *_) = sorted(
        path for paths in observed.objects.values() for path in paths if path.name.endswith("_crf.fits")
    )
    return fits.getdata(path, "SCI").tobytes() + fits.getdata(path, "DQ").tobytes()


def test_a_run_that_finds_no_place_for_its_results_ends_and_says_why(small, monkeypatch):
    def refused(url):
        raise OSError("the server refuses the block")

    monkeypatch.setattr("tasks.runtime.run.result_storage", refused)
    assert small.run().state == "Failed"


def test_without_outlier_detection_the_exposures_are_not_drizzled_again(settled):
    changed = settled.run(outliers={"enabled": False})
    assert every(settled, "Keep") <= changed.executed
    assert not changed.executed & (every(settled, "Drizzle") | every(settled, "Calibrate"))


def test_an_exposure_replaced_under_its_name_is_calibrated_again_alone(settled):
    everything, changed = combination(settled), settled.frames[1]
    content, status = changed.read_bytes(), changed.stat()
    try:
        with fits.open(changed, mode="update") as hdus:
            hdus["SCI"].data[..., -1, 60:100, 60:100] += 2000
        # The same name, size and time of modification: what a hurried copy leaves.
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert changed.stat().st_size == status.st_size
        name = names(settled)[1]
        steps = ("Aberration", "Cells", "Drizzle")
        others = {label for step in steps for label in every(settled, step) - {f"{step}: {name}"}}
        expected = {f"Calibrate: {name}", f"Inspect: {name}"} | everything - others
        assert but_picture(settled.run().executed) == but_picture(expected)
    finally:
        restore(changed, content)


def test_a_gain_map_with_other_content_calibrates_its_detector_again(settled):
    gain_map = settled.folder / "my_gain.fits"
    references = {"gain_maps": {"NRCBLONG": str(gain_map)}}
    write_gain_map(settled, gain_map, 1.8)
    assert settled.run(references=references).failed == {}
    write_gain_map(settled, gain_map, 2.4)
    expected = calibrated(settled) | but_picture(combination(settled))
    assert but_picture(settled.run(references=references).executed) == expected


def test_a_reference_file_with_other_content_in_the_same_context_calibrates_again(settled):
    (photom,) = settled.crds.rglob("*nrcblong*photom*.fits")
    everything, content = combination(settled), photom.read_bytes()
    try:
        with fits.open(photom) as hdus:
            hdus[1].data["photmjsr"] *= 1.25
            hdus.writeto(photom, overwrite=True)
        assert but_picture(settled.run().executed) == calibrated(settled) | but_picture(everything)
    finally:
        restore(photom, content)


def test_a_new_version_of_one_step_runs_it_and_equal_bytes_go_no_further(settled, monkeypatch):
    monkeypatch.setattr(DrawMosaic, "version", DrawMosaic.version + 1)
    assert settled.run().executed == {f"Preview: {BAND}"}


OUTPUTS = [
    (f"Publish: {BAND}", "_i2d.fits"),
    ("Publish: catalogue full", "_cat.ecsv"),
    (f"Publish: {BAND} visit {VISIT}", "_cal.fits"),
    (f"Mosaic: {BAND}", "_i2d.fits"),
    (f"Sky: {BAND}", "_sky.ecsv"),
]
"""Products under their final names, and what they were copied from."""


def test_deleted_outputs_are_made_again_and_nothing_else(settled):
    observed = settled.run()
    contents = {output(observed, *each): output(observed, *each).read_bytes() for each in OUTPUTS}
    for path in contents:
        path.unlink()
    assert settled.run().executed == {step for step, _ in OUTPUTS}
    assert {path: path.read_bytes() for path in contents} == contents


def test_corrupted_outputs_are_made_again_and_nothing_else(settled):
    observed = settled.run()
    contents = {output(observed, *each): output(observed, *each).read_bytes() for each in OUTPUTS}
    for path, content in contents.items():
        corrupt(path, content)
    assert settled.run().executed == {step for step, _ in OUTPUTS}
    assert {path: path.read_bytes() for path in contents} == contents


def corrupt(path, content):
    """Change one byte, and leave size and time of modification as they were."""
    status, middle = path.stat(), len(content) // 2
    with path.open("r+b") as stream:
        stream.seek(middle)
        stream.write(bytes([content[middle] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_half_a_record_of_a_finished_step_is_not_believed(settled):
    for record in (settled.cache / "results").iterdir():
        record.write_bytes(record.read_bytes()[:100])
    again = settled.run()
    assert (again.state, again.cached) == ("Completed", set())
    assert settled.run().executed == set()


def write_gain_map(survey, path, electrons_per_dn):
    (reference,) = survey.crds.rglob("*nrcblong*gain*.fits")
    primary = fits.PrimaryHDU(header=fits.getheader(reference))
    primary.header.update(SUBARRAY="FULL", SUBSTRT1=1, SUBSTRT2=1, SUBSIZE1=2048, SUBSIZE2=2048)
    gain = fits.ImageHDU(np.full((2048, 2048), electrons_per_dn, np.float32), name="SCI")
    fits.HDUList([primary, gain]).writeto(path, overwrite=True)


def output(observed, step, ending):
    return next(path for path in observed.objects[step] if path.name.endswith(ending))
