"""The lineage of a real run: each product is traced to the exposures that it was made of."""

import pandas as pd
import pytest

from cosmosaic.trace import trace

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture(scope="module")
def products(small):
    assert small.run().state == "Completed"
    return small.products


def test_mosaic_and_catalogue_are_traced_to_all_exposures_and_what_they_were_calibrated_with(small, products):
    frames = tuple(str(frame) for frame in small.frames)
    assert len(frames) == 3
    of_all = (*products.glob("small_catalog.parquet/tile=full/*_part.parquet"), *products.glob("*_eazy.cat"))
    assert len(of_all) == 2
    for product in (*products.glob("*_i2d.fits"), *products.glob("small*_cat.*"), *of_all):
        origin = trace(str(product))
        assert (origin.exposures, origin.helpers) == (frames, ())
        assert any(uri.endswith("_gain.fits") for uri in origin.others)


@pytest.mark.parametrize("ending", ["cal", "crf"])
def test_a_calibrated_exposure_is_traced_to_its_raw_one(small, products, ending):
    for frame in small.frames:
        name = frame.name.replace("_uncal", f"_{ending}")
        assert trace(str(products / "exposures" / name)).exposures == (str(frame),)


def test_a_run_that_only_looks_up_costs_nothing_and_is_traced_as_well(small, products):
    small.run()
    rows = pd.read_csv(products / "summary.csv")
    assert set(rows["bytes_written"]) == {0}
    assert rows["bytes_kept"].iloc[0] > rows["size"].sum()
    (mosaic,) = rows.loc[rows["kind"] == "i2d", "product"]
    assert trace(mosaic).run_id == rows["run_id"].iloc[0]
