"""`cosmosaic check` tells all errors at once, and what a run would need; it leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.small_survey import new_survey

from cosmosaic.check import find_problems, look_ahead
from cosmosaic.survey import Survey

PYTHON = [sys.executable, "-m", "cosmosaic"]

BROKEN = """
name = "mine"
store = "mine"
raw = "nothing"
association = "no_asn.json"
[grid]
tiles = "tiles.csv"
tangent_ra = 150.1
tangent_dec = 2.2
long_wavelength_factor = 2
[references]
crds_path = "no-crds"
[references.gain_maps]
NRCB1 = "no-gain.fits"
[sky.source_masks]
F444W = "no-mask.fits"
[catalog]
extinction_map = "no-ebv.fits"
[catalog.detector_psfs]
F115W = "no-psf.fits"
[resources]
memory_gb = 1e6
scratch = "scratch"
"""
ERRORS = (
    "association: there is no file no_asn.json",
    "catalog.extinction_map: there is no file no-ebv.fits",
    "catalog.detector_psfs.F115W: there is no file no-psf.fits",
    "references.gain_maps.NRCB1: there is no file no-gain.fits",
    "sky.source_masks.F444W: there is no file no-mask.fits",
    "references.crds_path: there is no folder no-crds",
    "found no FITS file under",
    "tile A1 (crpix (99.5, 100.5), nx 300, ny 301) does not nest",
    "resources.memory_gb is 1000000.0 GB",
)


@pytest.fixture
def broken(tmp_path) -> Path:
    (tmp_path / "tiles.csv").write_text("name,crpix_x,crpix_y,nx,ny\nA1,99.5,100.5,300,301\n")
    (tmp_path / "survey.toml").write_text(BROKEN)
    return tmp_path


@pytest.mark.parametrize("command", ["check", "run", "compare-sky"])
def test_every_error_is_told_at_once_and_nothing_is_left(broken, command):
    before = sorted(broken.rglob("*"))
    shown = subprocess.run([*PYTHON, command, "survey.toml"], cwd=broken, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    lines = [line for line in shown.stderr.splitlines() if line.startswith("error: ")]
    assert [next((error for error in ERRORS if error in line), line) for line in lines] == list(ERRORS)
    assert sorted(broken.rglob("*")) == before


def test_a_store_that_cannot_be_written_to_is_told_with_the_rest(tmp_path):
    (tmp_path / "file").write_text("")
    problems = find_problems(Survey(store=str(tmp_path / "file"), raw=str(tmp_path)))
    assert any("is a file" in problem for problem in problems)
    assert any("found no FITS file under" in problem for problem in problems)


def test_a_survey_file_with_comments_is_written_once_and_names_its_exposures(tmp_path):
    written = subprocess.run([*PYTHON, "init", "my.toml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert written.returncode == 0
    assert "cosmosaic check my.toml" in written.stdout
    content = (tmp_path / "my.toml").read_bytes()
    again = subprocess.run([*PYTHON, "init", "my.toml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert (tmp_path / "my.toml").read_bytes() == content


@pytest.mark.slow
@pytest.mark.server
class TestOfExposures:
    """With the exposures and reference files of a small survey."""

    @pytest.fixture
    def small(self, simulated, tmp_path):
        return new_survey(simulated, tmp_path)

    def test_what_a_run_would_need_is_told(self, small):
        small.frames[0].write_bytes(small.frames[0].read_bytes()[:5000])
        settings = small.settings_file()
        with settings.open("a") as stream:
            stream.write("[sky.source_masks]\nF150W = 'mask.fits'\n")
        (small.folder / "mask.fits").write_text("")
        before = sorted(small.folder.glob("*"))
        shown = subprocess.run(
            [*PYTHON, "check", "small.toml"], cwd=small.folder, capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, shown.stderr
        assert "small: 2 exposures" in shown.stdout
        assert f"refused {small.frames[0]}: " in shown.stdout
        assert "12 of 12 reference files are here" in shown.stdout
        assert "warning sky.source_masks: no exposure is of F150W" in shown.stdout
        assert all(len(line) <= 80 for line in shown.stdout.splitlines() if "┃" in line or "│" in line)
        assert sorted(small.folder.glob("*")) == before

    def test_references_that_crds_does_not_have_are_an_error(self, small):
        small.copy_references()
        for mapping in (small.crds / "mappings").rglob("*flat*.rmap"):
            mapping.unlink()
        survey = small.survey(references={"crds_server_url": "https://serverless.invalid"})
        needs = look_ahead(survey)
        (missing,) = needs.references.missing
        assert "CRDS has no reference files for" in missing

    def test_reference_files_that_are_not_here_are_named(self, small):
        small.copy_references()
        (dark,) = (small.crds / "references").rglob("*dark*.fits")
        dark.unlink()
        needs = look_ahead(small.survey(references={"crds_server_url": "https://serverless.invalid"}))
        assert needs.references.absent == (dark.name,)
        assert len(needs.references.local) == 11

    def test_the_grid_and_the_products_are_those_that_a_run_makes(self, small):
        needs = look_ahead(small.survey())
        small.run()
        window = needs.windows["F444W"].whole
        from astropy.io import fits

        header = fits.getheader(small.products / "small_f444w_30mas_full_i2d.fits", "SCI")
        assert (header["NAXIS2"], header["NAXIS1"]) == window.shape
        made = sum(path.stat().st_size for path in small.products.rglob("*") if path.is_file()) / 1e9
        cached = sum(path.stat().st_size for path in small.cache.rglob("*") if path.is_file()) / 1e9
        assert needs.products_gb == pytest.approx(made, rel=0.5)
        assert needs.cache_gb == pytest.approx(cached, rel=0.5)
