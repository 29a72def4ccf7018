"""A file of the user's for what was not observed is told."""

from pathlib import Path

from support.exposure_files import put

from cosmosaic.exposures.search import find_exposures
from cosmosaic.exposures.unused import unused_settings
from cosmosaic.survey import Survey


def test_files_for_what_was_not_observed_are_told_by_name(tmp_path: Path) -> None:
    put(tmp_path, 1, DETECTOR="NRCB4", FILTER="F150W2", PUPIL="F162M")
    put(tmp_path, 2, DETECTOR="NRCB3", FILTER="F150W")
    exposures = find_exposures(str(tmp_path)).exposures
    survey = Survey(
        references={"gain_maps": {"NRCB3": "g.fits", "NRCA1": "g.fits"}},
        sky={
            "wisp_templates": {"NRCB4_F150W2-F162M": "w.fits", "NRCB4_F150W": "w.fits"},
            "source_masks": {"F162M": "m.fits", "F277W": "m.fits"},
        },
        catalog={"psfs": {"F090W": "p.fits"}, "detector_psfs": {"F162M": "p.fits", "nrca5_f444w": "p.fits"}},
    )
    told = unused_settings(survey, exposures)
    assert [sentence.split(", so")[0] for sentence in told] == [
        "references.gain_maps: no exposure is of NRCA1",
        "sky.wisp_templates: no exposure is of NRCB4_F150W",
        "sky.source_masks: no exposure is of F277W",
        "catalog.psfs: no exposure is of F090W",
        "catalog.detector_psfs: no exposure is of NRCALONG_F444W",
    ]
    assert "observed are NRCB3_F150W, NRCB4_F162M" in told[1]
