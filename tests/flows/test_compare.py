"""All sky methods on one tile of a survey, ranked."""

from typing import get_args

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image
from support.small_survey import BAND

from cosmosaic.survey import SkyMethod
from flows.compare_sky import compare_sky

pytestmark = [pytest.mark.slow, pytest.mark.server]


def test_all_methods_are_ranked_and_drawn_side_by_side(small, capsys):
    assert small.run().state == "Completed"
    assert compare_sky(small.survey(), return_state=True).is_completed()
    table = Table.read(small.products / f"small_{BAND.lower()}_compare.ecsv")
    assert set(table["method"]) == set(get_args(SkyMethod)) - {"user", "auto"}
    assert f"{BAND}: {table['method'][0]} is ranked first" in capsys.readouterr().err
    assert list(table["levels"]) == sorted(table["levels"])
    found = dict(zip(table["method"], table["levels"], strict=True))
    # The sky itself is left in by one, by hundreds of times the differences between the others.
    assert found["none"] > 20 * found["overlap"]
    assert found["none"] > 20 * found["median"]
    with Image.open(small.products / f"small_{BAND.lower()}_compare.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 20


def test_the_best_method_is_used_and_why_is_recorded(small):
    observed = small.run(sky={"method": "auto"})
    assert observed.state == "Completed"
    (path,) = [path for path in observed.objects[f"Sky: {BAND}"] if path.name.endswith("_sky.ecsv")]
    told = Table.read(path).meta
    scores = {name: score for name, score in told["chosen_for"].items() if name != "score"}
    assert set(scores) == {"overlap", "pedestal", "median"}
    assert scores[told["method"]] == min(scores.values())
