"""Keys: what decides a result is in them, and nothing else."""

import dataclasses
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tasks
from cosmosaic.processes import workers
from cosmosaic.records import Reference, StoredObject
from cosmosaic.steps import step as steps
from cosmosaic.steps.step import Step
from cosmosaic.storage import store
from cosmosaic.survey import DrizzleSettings

FRAME = StoredObject(uri="/raw/a_uncal.fits", sha256="1" * 64, size=10)
GAIN = Reference(kind="gain", name="gain.fits", path="/crds/gain.fits", sha256="2" * 64)
STEP = Step("drizzle", 1, "children:join_files", (FRAME,), (DrizzleSettings(),), (GAIN,))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"inputs": (FRAME.model_copy(update={"sha256": "3" * 64}),)},
        {"inputs": (FRAME, FRAME)},
        {"arguments": (DrizzleSettings(pixfrac=0.8),)},
        {"references": (GAIN.model_copy(update={"sha256": "4" * 64}),)},
        {"references": ()},
        {"target": "/elsewhere"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_result_changes_the_key(change):
    assert STEP._replace(**change).key != STEP.key


def test_where_inputs_and_references_lie_does_not_change_the_key():
    moved = FRAME.model_copy(update={"uri": "s3://bucket/raw/a_uncal.fits"})
    other_cache = GAIN.model_copy(update={"path": "/other/gain.fits"})
    assert STEP._replace(inputs=(moved,), references=(other_cache,)).key == STEP.key


def test_objects_without_a_plain_form_are_refused_in_a_key():
    with pytest.raises(TypeError, match="cannot be part of a step's key"):
        _ = STEP._replace(arguments=(object(),)).key


def test_a_step_reads_its_inputs_in_order_and_leaves_its_files_in_the_cache(tmp_path):
    plan = workers.plan_workers(1, 3.0, 60.0, None, {})
    sources = []
    for word in ("dark", "flat"):
        (tmp_path / f"{word}.txt").write_text(word)
        sources.append(store.publish(tmp_path / f"{word}.txt", str(tmp_path / "raw" / f"{word}.txt")))
    step = Step("join", 1, "children:join_files", tuple(sources), (" and ",))
    result = steps.execute(step, str(tmp_path / "cache"), plan)
    (made,) = result.objects
    assert made.uri == str(tmp_path / "cache" / "join" / step.key / "joined.txt")
    assert store.read_bytes(made.uri) == b"dark and flat"
    assert result.facts == {"files": 2}
    assert steps.is_intact(result)
    store.publish(tmp_path / "flat.txt", made.uri)
    assert not steps.is_intact(result)
    workers.stop_workers()


def test_every_step_names_a_function_that_exists():
    """Steps name their functions in text, so that the flow's process need not import jwst."""
    named = set()
    for module in pkgutil.iter_modules(tasks.__path__, "tasks."):
        source = inspect.getsource(import_module(module.name))
        named |= {line.split('"')[1] for line in source.splitlines() if line.strip().startswith('function="cosmosaic')}
    assert len(named) >= 10
    for name in sorted(named):
        function = pkgutil.resolve_name(name)
        assert next(iter(inspect.signature(function).parameters)) == "paths"
        assert list(inspect.signature(function).parameters)[-1] == "folder"


def test_the_process_of_a_flow_spares_itself_the_import_of_jwst():
    told = "import sys, flows.mosaic; print('jwst' in sys.modules)"
    root = Path(__file__).parents[1]
    shown = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True, cwd=root)
    assert shown.stdout.strip() == "False"


def test_plans_are_hashable_so_that_pools_are_shared():
    plan = workers.plan_workers(1, 3.0, 60.0, None, {"A": "b"})
    assert hash(plan) == hash(dataclasses.replace(plan))
