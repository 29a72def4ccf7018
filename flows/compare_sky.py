"""All sky methods on one tile of each filter of your data, ranked by the verdict, side by side in one picture.

python flows/compare_sky.py                    a synthetic survey, under demo/
python flows/compare_sky.py survey.toml        your survey
"""

import sys

from prefect import flow
from prefect.states import State

from cosmosaic.artefacts.steps import subtract_wisps
from cosmosaic.comparison.steps import ComparedMethods, best_method, compare_methods
from cosmosaic.exposures.windows import named_tiles, on_grid_of_image, survey_windows
from cosmosaic.storage import store
from cosmosaic.survey import Survey
from tasks.calibrate import calibrated_bands
from tasks.find import survey_exposures
from tasks.runtime.command import main
from tasks.runtime.report import finish_run, open_run
from tasks.simulate import simulate_survey


@flow(name="compare_sky", flow_run_name="{survey.name}")
def compare_sky(survey: Survey = Survey()) -> State:  # noqa: B008
    """Rank all sky methods on one tile of each filter."""
    survey = on_grid_of_image(survey)
    with open_run(survey) as run:
        if survey.is_synthetic:
            simulate_survey(run)
        tiles = named_tiles(survey)
        found = survey_exposures(run, tiles)
        windows = survey_windows(found.exposures, survey, tiles)
        compared: dict[str, ComparedMethods] = {}
        for band in calibrated_bands(found, run):
            cleaned, _ = subtract_wisps(band, run)
            compared[band.name] = compare_methods(band, cleaned, windows[band.name].whole, run)
            run.publish(f"{band.name} comparison", [compared[band.name]], {"filter": band.name})
        state = finish_run(run, found)
        for name, result in run.results(compared).items():
            table = ComparedMethods.of(result).table.stored
            run.note(f"{name}: {best_method(store.read_bytes(table.uri).decode())} is ranked first; see {table.name}")
        return state


if __name__ == "__main__":
    sys.exit(main(compare_sky, sys.argv[1:]))
