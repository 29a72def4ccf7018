"""A step is what its declaration says: its key, its inputs and outputs, its function."""

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_type_hints

import pytest

import cosmosaic
from cosmosaic.exposures.files import Cal
from cosmosaic.mosaic.steps import AssembleMosaic, TilePlanes
from cosmosaic.processes import workers
from cosmosaic.records import MosaicGrid, Reference, StoredObject
from cosmosaic.run_table import COLUMNS
from cosmosaic.steps.declaration import GENERAL, MissingFileError, Outputs, Step, consulted, names_of, surviving
from cosmosaic.steps.execution import DeclarationError, execute, is_intact, key_of, scratch_bytes
from cosmosaic.steps.files import File, Many, Promise
from cosmosaic.steps.publication import Publish, place_of
from cosmosaic.storage import store
from cosmosaic.storage.scratch import ScratchError
from cosmosaic.survey import DrizzleSettings, ReferenceSettings, SkySettings, Survey
from tasks.steps import TASKS, step_table

FRAME = StoredObject(uri="/raw/a_uncal.fits", sha256="1" * 64, size=10)
OTHER = dataclasses.replace(FRAME, sha256="3" * 64)
GAIN = Reference(kind="gain", name="gain.fits", path="/crds/gain.fits", sha256="2" * 64)


class Text(File, suffix=".txt"):
    """A text."""


@dataclass(frozen=True)
class Joined(Outputs):
    """Texts in one."""

    joined: Text


@dataclass(frozen=True, kw_only=True)
class Join(Step[Joined]):
    """Join texts."""

    title = "Join"
    version = 1
    function = "support.children:join_files"
    per = "survey"

    parts: tuple[Text, ...]
    last: Text | None = None
    word: object = " and "
    noted: str | None = consulted()


@dataclass(frozen=True, kw_only=True)
class Breaks(Join):
    """Promises a text and makes something else."""

    function = "support.children:promise_breaker"


@dataclass(frozen=True, kw_only=True)
class Warns(Join):
    """Makes its file, and says what was wrong."""

    function = "support.children:warn_and_join"


@dataclass(frozen=True, kw_only=True)
class Hoards(Join):
    """Needs more memory than its share."""

    function = "support.children:hoard_and_join"

    @property
    def needed_gb(self) -> float:
        """Memory."""
        return 5.0


@dataclass(frozen=True, kw_only=True)
class Shows(Join):
    """Shows a fact that its function does not give."""

    columns: ClassVar = {"sources": "sources"}


@dataclass(frozen=True, kw_only=True)
class Gather(Step[Joined]):
    """Join the texts that there are."""

    title = "Gather"
    version = 1
    function = "support.children:join_files"
    per = "survey"

    parts: Mapping[str, Text] = surviving()


@dataclass(frozen=True, kw_only=True)
class Newer(Join):
    """The same, in a new version."""

    version = 2


STEP = Join(parts=(Text(FRAME),), word=DrizzleSettings(), noted=None, references=(GAIN,))


@pytest.mark.parametrize(
    "change",
    [
        {"parts": (Text(OTHER),)},
        {"parts": (Text(FRAME), Text(FRAME))},
        {"last": Text(FRAME)},
        {"word": DrizzleSettings(pixfrac=0.8)},
        {"references": (GAIN.model_copy(update={"sha256": "4" * 64}),)},
        {"references": ()},
        {"sources": (Text(FRAME),)},
        {"target": "/elsewhere"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_result_changes_the_key(change):
    assert key_of(dataclasses.replace(STEP, **change)) != key_of(STEP)


def test_a_new_version_changes_the_key():
    assert key_of(Newer(**{field.name: getattr(STEP, field.name) for field in dataclasses.fields(STEP)})) != key_of(
        STEP
    )


def test_where_inputs_and_references_lie_and_what_is_only_consulted_does_not_change_the_key():
    moved = dataclasses.replace(FRAME, uri="s3://bucket/raw/a_uncal.fits")
    other_cache = GAIN.model_copy(update={"path": "/other/gain.fits"})
    same = dataclasses.replace(STEP, parts=(Text(moved),), references=(other_cache,), noted="yesterday")
    assert key_of(same) == key_of(STEP)


def test_the_name_under_which_a_file_is_given_is_part_of_the_key():
    first, second = (Gather(parts={name: Text(FRAME)}) for name in ("a", "b"))
    assert key_of(first) != key_of(second)


def test_objects_without_a_plain_form_are_refused_in_a_key():
    with pytest.raises(TypeError, match="cannot be part of a step's key"):
        key_of(dataclasses.replace(STEP, word=object()))


def test_promised_files_are_settled_and_what_a_step_can_do_without_is_left_out():
    made = {"whole": FRAME, "many": {"a": FRAME}}

    def look_up(promise):
        found = made.get(promise.output)
        return found.get(promise.name) if isinstance(found, dict) and promise.name else found

    many = Many(Text, Promise("node", "many"))
    settled = Join(parts=(many["a"], many.get("b")), last=many.get("b"), noted=None).settled(look_up)
    assert settled.parts == (Text(FRAME),)
    assert settled.last is None
    with pytest.raises(MissingFileError, match="no many of b"):
        Join(parts=(many["b"],), noted=None).settled(look_up)
    gathered = Gather(parts={"a": many["a"], "gone": Text(Promise("other", "none"))}).settled(look_up)
    assert gathered.parts == {"a": Text(FRAME)}


def test_a_step_reads_its_inputs_and_leaves_its_files_in_the_cache(tmp_path):
    plan = workers.plan_workers(1, 3.0, 60.0, None, {})
    sources = []
    for word in ("dark", "flat", "gain"):
        (tmp_path / f"{word}.txt").write_text(word)
        sources.append(Text(store.publish(tmp_path / f"{word}.txt", str(tmp_path / "raw" / f"{word}.txt"))))
    step = Join(parts=tuple(sources[:2]), last=sources[2], noted=None)
    result = execute(step, str(tmp_path / "cache"), plan)
    made = result.files["joined"]
    assert made.uri == str(tmp_path / "cache" / "join_files" / key_of(step) / "joined.txt")
    assert store.read_bytes(made.uri) == b"dark and flat and gain"
    assert result.facts == {"files": 3}
    assert result.warnings == ()
    warned = execute(Warns(parts=tuple(sources), noted=None), str(tmp_path / "cache"), plan)
    assert warned.warnings == ("dark.txt has no words",)
    assert is_intact(result)
    assert type(result).model_validate_json(result.model_dump_json()) == result
    store.publish(tmp_path / "flat.txt", made.uri)
    assert not is_intact(result)
    with pytest.raises(DeclarationError, match=r"joined\.fits does not end in \.txt"):
        execute(Breaks(parts=tuple(sources), noted=None), str(tmp_path / "cache"), plan)
    with pytest.raises(DeclarationError, match=r"gave no facts \['sources'\]"):
        execute(Shows(parts=tuple(sources), noted=None), str(tmp_path / "cache"), plan)
    workers.stop_workers()


class Part(File, suffix="_part.txt", kind="part", parents=2):
    """A part of a set of texts."""


class Shelved(File, suffix=".txt", kind="shelved", folder="shelf"):
    """A text in a folder."""


def test_products_lie_in_their_kinds_folder_or_in_those_that_their_step_made():
    stored = StoredObject(uri="s3://bucket/cache/write/0a/texts/letter=b/b_part.txt", sha256="1" * 64, size=1)
    assert [place_of(kind(stored)) for kind in (Text, Shelved, Part)] == [
        "b_part.txt",
        "shelf/b_part.txt",
        "texts/letter=b/b_part.txt",
    ]


@dataclass(frozen=True)
class Written(Outputs):
    """A text with its part of a set."""

    text: Shelved
    part: Part


def test_links_name_products_but_no_parts_of_sets():
    made = Written(Shelved(FRAME), Part(FRAME))
    assert names_of("small", made, None) == {"txt": "small.txt"}
    assert len(made.published) == 2


@dataclass(frozen=True, kw_only=True)
class Sparing(Join):
    """Writes little."""

    written = 0.1


@dataclass(frozen=True, kw_only=True)
class Wasteful(Join):
    """Writes more than any disk holds."""

    written = 1e15


def test_a_step_asks_for_room_for_what_it_writes_and_for_inputs_that_it_must_fetch(tmp_path):
    remote = dataclasses.replace(FRAME, uri="s3://bucket/a_uncal.fits", sha256="5" * 64)
    assert scratch_bytes(Join(parts=(Text(FRAME), Text(OTHER)), noted=None)) == 2.5 * 20
    assert scratch_bytes(Sparing(parts=(Text(FRAME), Text(remote)), noted=None)) == 10 + 0.1 * 20
    (tmp_path / "a.txt").write_text("0123456789")
    here = Text(store.publish(tmp_path / "a.txt", str(tmp_path / "raw" / "a.txt")))
    plan = workers.plan_workers(1, 3.0, 60.0, None, {})
    with pytest.raises(ScratchError, match="join_files needs about 10000000"):
        execute(Wasteful(parts=(here,), noted=None), str(tmp_path / "cache"), plan)
    workers.stop_workers()


def test_a_mosaic_asks_for_the_room_of_its_planes_and_not_of_its_packed_tiles():
    window = MosaicGrid(
        tangent_ra=10.0, tangent_dec=0.0, rotation=0.0, pixel_scale_mas=30.0, crpix=(1.0, 1.0), shape=(1000, 2000)
    )
    step = AssembleMosaic(
        tiles=(TilePlanes(FRAME),),
        summaries={},
        first=Cal(FRAME),
        verdict=None,
        astrometry=None,
        window=window,
        settings=DrizzleSettings(),
        product_name="a_i2d.fits",
    )
    assert step.written_bytes == 1000 * 2000 * 9 * 4


def test_a_step_that_says_so_is_given_more_memory_than_its_share(tmp_path):
    plan = workers.plan_workers(2, 6.0, 60.0, None, {})
    (tmp_path / "dark.txt").write_text("dark")
    dark = Text(store.publish(tmp_path / "dark.txt", str(tmp_path / "raw" / "dark.txt")))
    made = execute(Hoards(parts=(dark,), noted=None), str(tmp_path / "cache"), plan)
    assert made.facts == {"files": 1}
    workers.stop_workers()


@pytest.mark.parametrize("groups", [6, 10, 20])
def test_calibration_asks_for_memory_by_its_engine_and_the_shape_of_its_ramp(groups):
    """Not by the size of the file, which may be compressed."""
    from cosmosaic.calibrate.steps import CalibrateRamp, VerifyRamp
    from cosmosaic.exposures.files import Uncal
    from cosmosaic.survey import ExposureSettings

    rest = {"ramp": Uncal(FRAME), "gain_map": None, "detector": "NRCB1", "shape": (1, groups, 2048, 2048)}
    fused = CalibrateRamp(settings=ExposureSettings(engine="fused"), **rest)
    jwst = CalibrateRamp(settings=ExposureSettings(engine="jwst"), **rest)
    # Measured with the jwst package's steps: 1.9 GB with 6 groups, 2.75 GB with 10; and with the compiled functions.
    by_jwst = 1.9 + (groups - 6) * (2.75 - 1.9) / 4
    by_fused = 1.0 + (groups - 6) * 0.025
    for step in (jwst, VerifyRamp(settings=fused.settings, **rest)):
        assert by_jwst < step.needed_gb < 1.15 * by_jwst
    assert by_fused < fused.needed_gb < 1.2 * by_fused
    several = dataclasses.replace(fused, shape=(2, groups // 2, 2048, 2048))
    assert several.needed_gb == jwst.needed_gb
    small = dataclasses.replace(fused, shape=(1, groups, 640, 640))
    assert small.needed_gb < 1.1


def declared_steps() -> list[type[Step]]:
    """All steps of the library."""
    for module in pkgutil.walk_packages(cosmosaic.__path__, "cosmosaic."):
        if module.name.rpartition(".")[2] in ("steps", "publication"):
            importlib.import_module(module.name)

    def below(step):
        return [each for own in step.__subclasses__() for each in (own, *below(own))]

    return [step for step in below(Step) if step.__module__.startswith("cosmosaic.")]


@pytest.mark.parametrize("step", declared_steps(), ids=lambda step: step.__name__)
def test_each_declared_function_takes_what_the_declaration_says(step):
    if step is Publish:
        return  # done by the flow's own process
    fields = [field for field in dataclasses.fields(step) if field.name not in GENERAL]
    named = {field.name for field in fields if not field.metadata.get("consulted")}
    parameters = inspect.signature(pkgutil.resolve_name(step.function)).parameters
    assert named | {"folder"} == set(parameters)
    assert step.per in ("exposure", "tile", "mosaic", "filter", "survey")
    assert get_type_hints(step)
    assert step.__doc__


@pytest.mark.parametrize("step", declared_steps(), ids=lambda step: step.__name__)
def test_no_step_takes_settings_that_name_things_filter_by_filter(step):
    """A mask or wisp template for one filter would run the steps of every other filter again."""
    too_wide = {Survey, SkySettings, ReferenceSettings}
    assert not too_wide & set(get_type_hints(step).values())


def test_the_run_table_has_the_columns_of_each_declared_step():
    columns = {column for step in declared_steps() for column in step.columns.values()}
    assert columns
    assert columns <= set(COLUMNS)


def test_each_declared_step_has_a_task():
    assert set(declared_steps()) == set(TASKS)


def test_the_docs_list_the_declared_steps(pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "steps.md").read_text()
    assert step_table() in page, "write the output of `cosmosaic steps` into docs/steps.md"


def test_kinds_of_published_files_have_names_of_their_own():
    suffixes = [
        (field.kind.suffix, field.kind)
        for step in declared_steps()
        for field in step.outputs.fields().values()
        if field.kind.kind
    ]
    assert len({suffix for suffix, _ in suffixes}) == len({kind for _, kind in suffixes})


def test_the_process_of_a_flow_spares_itself_the_import_of_jwst():
    told = "import sys, flows.mosaic; print('jwst' in sys.modules)"
    root = Path(__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True, cwd=root)
    assert shown.stdout.strip() == "False"


def test_plans_are_hashable_so_that_pools_are_shared():
    plan = workers.plan_workers(1, 3.0, 60.0, None, {"A": "b"})
    assert hash(plan) == hash(dataclasses.replace(plan))
