"""Sources of known flux put into your exposures: completeness, flux bias and errors of the catalogue, judged.

python flows/inject.py                    a synthetic survey, under demo/
python flows/inject.py survey.toml        your survey
"""

import sys

from prefect import flow
from prefect.states import State

from cosmosaic.catalog.steps import number_catalogs, submit_catalogs, submit_images
from cosmosaic.exposures.windows import named_tiles, on_grid_of_image
from cosmosaic.injection.steps import inject as inject_sources
from cosmosaic.injection.steps import require_errors
from cosmosaic.survey import Survey
from flows.mosaic import combine_bands
from tasks.find import survey_exposures
from tasks.injection import publish_injection, tell_verdicts
from tasks.runtime.command import main
from tasks.runtime.report import finish_run, open_run
from tasks.simulate import simulate_survey


@flow(name="inject", flow_run_name="{survey.name}")
def inject(survey: Survey = Survey()) -> State:  # noqa: B008
    """Inject sources into the exposures, and judge the catalogue by what it finds of them."""
    require_errors(survey)
    survey = on_grid_of_image(survey)
    with open_run(survey) as run:
        if survey.is_synthetic:
            simulate_survey(run)
        tiles = named_tiles(survey)
        found = survey_exposures(run, tiles)
        # Steps of the survey's own run are looked up; what they make is not published.
        bands = {name: combined.measured for name, combined in combine_bands(found, tiles, run)}
        catalogs = submit_catalogs(bands, submit_images(bands, run), run)
        numbered = number_catalogs(catalogs, tuple(bands), run).windows if catalogs else {}
        injected = inject_sources(bands, catalogs, numbered, run.worker_gb, run)
        publish_injection(injected, run)
        state = finish_run(run, found)
        tell_verdicts(injected, run)
        return state


if __name__ == "__main__":
    sys.exit(main(inject, sys.argv[1:]))
