"""The main job: raw frames in, mosaics, catalogues, previews and a run table out.

python flows/mosaic.py                    a synthetic survey, under demo/
python flows/mosaic.py survey.toml        your survey
python flows/mosaic.py --help             every setting
"""

import sys

from prefect import flow
from prefect.states import State

from cosmosaic.survey import Survey
from tasks.calibrate import calibrated_bands
from tasks.combine import combine_band, composite
from tasks.frames import survey_frames
from tasks.grid import named_tiles, survey_grids
from tasks.page import sky_page
from tasks.runtime.command import main
from tasks.runtime.report import finish_run, open_run
from tasks.simulate import simulate_survey
from tasks.source_masks import source_masks


@flow(name="mosaic", flow_run_name="{survey.name}")
def mosaic(survey: Survey = Survey()) -> State:  # noqa: B008
    """Make mosaics, catalogues, previews and a run table of a NIRCam survey."""
    with open_run(survey) as run:
        if survey.is_synthetic:
            simulate_survey(run)
        tiles = named_tiles(survey)
        found = survey_frames(run, tiles)
        masks = source_masks(found.frames, run)
        grids = survey_grids(found.frames, survey, tiles)
        bands = [
            combine_band(each, grids[each.association.band], masks.get(each.association.band), run)
            for each in calibrated_bands(found, run)
        ]
        shared = {"colour picture": composite(bands, run), "sky page": sky_page(bands, run)}
        return finish_run(run, found, bands, shared)


if __name__ == "__main__":
    sys.exit(main(mosaic, sys.argv[1:]))
