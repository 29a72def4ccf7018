"""The main job: raw frames in, mosaics, catalogues, previews and a run table out.

python flows/mosaic.py                    a synthetic survey, under demo/
python flows/mosaic.py survey.toml        your survey
python flows/mosaic.py --help             every setting
"""

import sys

from prefect import flow
from prefect.states import State

from cosmosaic.associations import make_associations
from cosmosaic.survey import Survey
from tasks.calibrate import calibrate_exposures
from tasks.combine import combine_band, composite
from tasks.command import main
from tasks.frames import survey_frames
from tasks.grid import named_tiles, survey_grids
from tasks.page import sky_page
from tasks.report import finish_run, open_run
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
        exposures = calibrate_exposures(found, run)
        calibrated = [frame for frame in found.frames if frame.name in exposures]
        grids = survey_grids(found.frames, survey, tiles)
        associations = make_associations(calibrated, survey.name)
        frames = {frame.name: frame for frame in found.frames}
        bands = [
            combine_band(each, exposures, frames, grids[each.band], masks.get(each.band), run) for each in associations
        ]
        shared = {"colour picture": composite(bands, run), "sky page": sky_page(bands, run)}
        return finish_run(run, found, bands, shared)


if __name__ == "__main__":
    sys.exit(main(mosaic, sys.argv[1:]))
