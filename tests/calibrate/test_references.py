"""Where CRDS looks for reference files follows from the settings."""

from pathlib import Path

from cosmosaic.calibrate.references import crds_environment
from cosmosaic.survey import ReferenceSettings, Survey


def test_a_cache_in_the_home_folder_is_named_in_full():
    references = ReferenceSettings(crds_path="~/crds_cache", crds_context="jwst_0001.pmap")
    environment = crds_environment(Survey(raw="raw", references=references))
    assert environment == {"CRDS_PATH": str(Path.home() / "crds_cache"), "CRDS_CONTEXT": "jwst_0001.pmap"}
