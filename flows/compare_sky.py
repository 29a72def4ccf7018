"""All sky methods on one tile of each filter of your data, ranked by the verdict, side by side in one picture.

python flows/compare_sky.py                    a synthetic survey, under demo/
python flows/compare_sky.py survey.toml        your survey
"""

import sys

from prefect import flow
from prefect.states import State

from cosmosaic.associations import make_associations
from cosmosaic.survey import Survey
from tasks.calibrate import calibrate_exposures
from tasks.command import main
from tasks.compare import compare_band
from tasks.frames import survey_frames
from tasks.grid import named_tiles, survey_grids
from tasks.report import finish_run, open_run
from tasks.simulate import simulate_survey


@flow(name="compare_sky", flow_run_name="{survey.name}")
def compare_sky(survey: Survey = Survey()) -> State:  # noqa: B008
    """Rank all sky methods on one tile of each filter."""
    with open_run(survey) as run:
        if survey.is_synthetic:
            simulate_survey(run)
        tiles = named_tiles(survey)
        found = survey_frames(run, tiles)
        exposures = calibrate_exposures(found, run)
        frames = {frame.name: frame for frame in found.frames}
        grids = survey_grids(found.frames, survey, tiles)
        associations = make_associations([frame for frame in found.frames if frame.name in exposures], survey.name)
        compared = {
            each.band: compare_band(each, exposures, frames, grids[each.band].whole, run) for each in associations
        }
        return finish_run(run, found, [], compared)


if __name__ == "__main__":
    sys.exit(main(compare_sky, sys.argv[1:]))
