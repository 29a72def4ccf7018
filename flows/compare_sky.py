"""All sky methods on one tile of each filter of your data, ranked by the verdict, side by side in one picture.

python flows/compare_sky.py                    a synthetic survey, under demo/
python flows/compare_sky.py survey.toml        your survey
"""

import sys

from prefect import flow
from prefect.states import State

from cosmosaic.survey import Survey
from tasks.calibrate import calibrated_bands
from tasks.compare import compare_band
from tasks.frames import survey_frames
from tasks.grid import named_tiles, survey_grids
from tasks.runtime.command import main
from tasks.runtime.report import finish_run, open_run
from tasks.simulate import simulate_survey


@flow(name="compare_sky", flow_run_name="{survey.name}")
def compare_sky(survey: Survey = Survey()) -> State:  # noqa: B008
    """Rank all sky methods on one tile of each filter."""
    with open_run(survey) as run:
        if survey.is_synthetic:
            simulate_survey(run)
        tiles = named_tiles(survey)
        found = survey_frames(run, tiles)
        grids = survey_grids(found.frames, survey, tiles)
        compared = {
            each.association.band: compare_band(each, grids[each.association.band].whole, run)
            for each in calibrated_bands(found, run)
        }
        return finish_run(run, found, [], compared)


if __name__ == "__main__":
    sys.exit(main(compare_sky, sys.argv[1:]))
