"""The exposures of a product, and of a source, from the lineage that runs write."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pandas as pd
import pytest
from support.exposure_files import put

from cosmosaic.lineage import StepLineage, read_lineages, write_lineage
from cosmosaic.records import Reference, StoredObject
from cosmosaic.storage import store
from cosmosaic.trace import main, trace

MOMENT = datetime(2026, 11, 28, tzinfo=UTC)
GAIN = Reference(kind="gain", name="gain.fits", path="/crds/gain.fits", sha256="g" * 64)


class Made:
    """Files of a survey of two exposures at different places, one of which reaches the mosaic."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.products = folder, folder / "products"
        self.raw = [store.checksum(str(put(folder / "raw", n, "uncal", ra=150.1 + n / 10))) for n in (1, 2)]
        self.cals = [self.file(f"cache/{n}/jw_{n}_cal.fits") for n in (1, 2)]
        self.levels = self.file("cache/small_sky.ecsv")
        self.cached = self.file("cache/small_f444w_i2d.fits")
        self.mosaic = self.file("products/small_f444w_i2d.fits", "cache/small_f444w_i2d.fits")
        self.shown = [self.file(f"products/exposures/jw_{n}_cal.fits", f"cache/{n}/jw_{n}_cal.fits") for n in (1, 2)]
        self.catalogue = self.folder / "products" / "small_full_cat.parquet"
        places = [(1, 150.2, 2.2), (2, 150.9, 2.2)]
        pd.DataFrame(places, columns=["id", "ra", "dec"]).to_parquet(self.catalogue)

    def file(self, path: str, text: str = "") -> StoredObject:
        return store.publish_bytes((text or path).encode(), str(self.folder / path))

    def steps(self) -> list[StepLineage]:
        of_catalogue = store.checksum(str(self.catalogue))
        measured = replace(of_catalogue, uri=str(self.folder / "cache" / self.catalogue.name))
        copies = ((self.cached, *self.cals, measured), (self.mosaic, *self.shown, of_catalogue))
        return [
            StepLineage("cosmosaic.simulate.survey:make_exposure", "0", (), (), tuple(self.raw), MOMENT),
            *(
                StepLineage("calibrate:ramp", str(n), (raw,), (GAIN,), (cal,), MOMENT)
                for n, (raw, cal) in enumerate(zip(self.raw, self.cals, strict=True))
            ),
            StepLineage("sky:measure", "3", tuple(self.cals), (), (self.levels,), MOMENT),
            StepLineage("mosaic:assemble", "4", (self.cals[0], self.levels), (), (self.cached,), MOMENT),
            StepLineage("steps:publish", "5", copies[0], (), copies[1], MOMENT),
            StepLineage("catalog:measure", "6", (self.cached,), (), (measured,), MOMENT),
        ]

    def record(self, moment: datetime = MOMENT) -> str:
        run = str(uuid4())
        write_lineage(str(self.products), run, "small", moment, self.steps())
        return run


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def test_the_light_of_a_mosaic_is_told_from_what_its_levels_were_measured_on(made):
    run = made.record()
    origin = trace(made.mosaic.uri)
    assert origin == (run, (made.raw[0].uri,), (made.raw[1].uri,), (GAIN.path,))


def test_files_that_were_published_together_keep_their_own_exposures(made):
    made.record()
    assert [trace(each.uri).exposures for each in made.shown] == [(each.uri,) for each in made.raw]


def test_a_source_is_traced_to_the_exposures_that_saw_it(made, capsys):
    made.record()
    assert main([str(made.catalogue)]) == 0
    assert capsys.readouterr().out.split() == [made.raw[0].uri]
    assert main([str(made.catalogue), "--source", "1"]) == 0
    assert capsys.readouterr().out.split() == [made.raw[0].uri]
    assert main([str(made.catalogue), "--source", "2"]) == 0
    assert capsys.readouterr().out.split() == []


def test_the_last_run_that_knows_the_bytes_counts(made):
    made.record(MOMENT + timedelta(milliseconds=1))
    last = made.record(MOMENT + timedelta(milliseconds=2))
    made.record(MOMENT)
    assert trace(made.mosaic.uri).run_id == last


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["products/lost_i2d.fits"], "there is no file"),
        (["products/unknown_i2d.fits"], "give a product where the run put it"),
        (["products/small_full_cat.parquet", "--source", "3"], "has no source with id 3"),
        (["products/small_f444w_i2d.fits", "--source", "1"], "is not a catalogue"),
    ],
)
def test_what_cannot_be_traced_is_told_with_its_cure(made, capsys, arguments, told):
    made.record()
    made.file("products/unknown_i2d.fits")
    assert main([str(made.folder / arguments[0]), *arguments[1:]]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert arguments[0] in said


def test_a_product_that_was_altered_since_is_not_traced(made):
    made.record()
    made.file("products/small_f444w_i2d.fits", "other bytes")
    with pytest.raises(LookupError, match="if it was altered, run the survey again"):
        trace(made.mosaic.uri)


def test_events_name_their_files_as_openlineage_does(made):
    raw = StoredObject(uri="s3://bucket/raw/a_uncal.fits", sha256="a" * 64, size=1)
    step = StepLineage("calibrate:ramp", "0", (raw,), (GAIN,), (made.cached,), MOMENT)
    run = str(uuid4())
    written = Path(write_lineage(str(made.products), run, "small", MOMENT, [step]))
    (event,) = map(json.loads, written.read_text().splitlines())
    assert [(each["namespace"], each["name"]) for each in event["inputs"]] == [
        ("s3://bucket", "raw/a_uncal.fits"),
        ("file", "/crds/gain.fits"),
    ]
    assert (event["eventType"], event["job"]["name"]) == ("COMPLETE", "calibrate:ramp")
    assert event["run"]["facets"]["parent"]["run"]["runId"] == run
    assert UUID(event["run"]["runId"])
    (lineage,) = read_lineages(str(made.products))
    assert lineage.made_of[made.cached.uri] == {raw.uri, GAIN.path}
