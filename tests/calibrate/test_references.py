"""Where CRDS looks for reference files follows from the settings."""

import gzip
import re
from pathlib import Path

import asdf
import pytest
from astropy.io import fits

from cosmosaic.calibrate import references
from cosmosaic.calibrate.gain import GZIP_MAGIC
from cosmosaic.calibrate.integrity import fault_of
from cosmosaic.calibrate.references import crds_environment, resolve_references
from cosmosaic.exposures.exposure import describe_exposure
from cosmosaic.processes import workers
from cosmosaic.processes.plan import LEAST_GB
from cosmosaic.records import Exposure
from cosmosaic.simulate.plan import plan_exposures
from cosmosaic.simulate.references import CRDS_CONTEXT, write_crds_cache
from cosmosaic.simulate.survey import simulate_exposure, survey_scene
from cosmosaic.survey import FilterPair, ReferenceSettings, SimulationSettings, Survey

SETTINGS = SimulationSettings(
    subarray="SUB160", detectors=("NRCB1", "NRCBLONG"), filter_pairs=(FilterPair(short="F115W", long="F277W"),),
    groups=3, flicker_noise=False, dithers_arcsec=((0.0, 0.0),),
)  # fmt: skip


def test_a_cache_in_the_home_folder_is_named_in_full():
    references = ReferenceSettings(crds_path="~/crds_cache", crds_context="jwst_0001.pmap")
    environment = crds_environment(Survey(raw="raw", references=references))
    assert environment == {"CRDS_PATH": str(Path.home() / "crds_cache"), "CRDS_CONTEXT": "jwst_0001.pmap"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Exposure, ...]]:
    """A CRDS cache, and two ramps that it serves."""
    folder = tmp_path_factory.mktemp("survey")
    write_crds_cache(SETTINGS, folder / "crds")
    planned = plan_exposures(SETTINGS)
    scene = survey_scene(SETTINGS, planned)
    ramps = [simulate_exposure(frame, scene, SETTINGS, folder)[0] for frame in planned]
    return folder / "crds", tuple(describe_exposure(str(path)) for path in ramps)


@pytest.fixture
def files(survey: tuple[Path, tuple[Exposure, ...]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The reference files of the short-wavelength exposure by type, which are as they were at the end."""
    cache, exposures = survey
    monkeypatch.setenv("CRDS_PATH", str(cache))
    monkeypatch.setenv("CRDS_CONTEXT", CRDS_CONTEXT)
    monkeypatch.delenv("CRDS_SERVER_URL", raising=False)
    found = resolve_references(exposures, cache)
    assert found.missing == {}
    paths = {one.kind: Path(one.path) for one in found.found[short(exposures).object.uri]}
    before = {path: path.read_bytes() for path in paths.values()}
    yield paths
    for path, content in before.items():
        path.write_bytes(content)


def short(exposures: tuple[Exposure, ...]) -> Exposure:
    return next(one for one in exposures if one.detector == "NRCB1")


@pytest.mark.slow
def test_every_good_reference_file_passes(files: dict[str, Path]) -> None:
    assert len(files) > 8
    for kind, path in files.items():
        assert fault_of(path, kind, "NRCB1") == ""
    assert fault_of(path.with_name("none.fits"), kind, "NRCB1") == "is not there"


def test_packed_files_are_checked_within_the_memory_of_the_smallest_child(
    survey: tuple[Path, tuple[Exposure, ...]], files: dict[str, Path]
) -> None:
    cache, exposures = survey
    assert any(path.read_bytes().startswith(GZIP_MAGIC) for path in files.values())
    environment = {"CRDS_PATH": str(cache), "CRDS_CONTEXT": CRDS_CONTEXT}
    plan = workers.plan_workers(1, LEAST_GB, 600.0, None, environment)
    try:
        assert workers.run(plan, resolve_references, exposures).result.missing == {}
    finally:
        workers.stop_workers()


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def cut_unpacked(path: Path) -> None:
    content = path.read_bytes()
    plain = gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    path.write_bytes(plain[: len(plain) // 2])


def put_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_another_detector(path: Path) -> None:
    if path.suffix == ".asdf":
        with asdf.open(path) as file:
            tree = dict(file.tree)
            tree["meta"] = tree["meta"] | {"instrument": {"name": "NIRCAM", "detector": "NRCA2"}}
            asdf.AsdfFile(tree).write_to(path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
        return
    with fits.open(path) as hdus:
        hdus[0].header["DETECTOR"] = "NRCA2"
        hdus.writeto(path.with_suffix(".new"), output_verify="ignore")
    path.with_suffix(".new").replace(path)


DAMAGES = {
    cut: "truncated or damaged",
    cut_unpacked: "truncated or damaged",
    put_zeros: "truncated or damaged",
    empty: "is empty",
    put_another_detector: "stale.*DETECTOR = 'NRCA2'.*'NRCB1'",
}
# The distortion is ASDF, which is not packed here.
CASES = [
    (kind, damage)
    for kind in ("flat", "distortion", "photom")
    for damage in DAMAGES
    if (kind, damage) != ("distortion", cut_unpacked)
]


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_a_damaged_reference_file_is_named_with_the_cure_and_costs_only_what_needs_it(
    survey, files: dict[str, Path], kind: str, damage
) -> None:
    cache, exposures = survey
    damage(files[kind])
    references._fault_of.cache_clear()
    found = resolve_references(exposures, cache)
    ours = short(exposures)
    assert set(found.missing) == {ours.object.uri}
    assert len(found.found) == len(exposures) - 1
    message = found.missing[ours.object.uri]
    assert str(files[kind]) in message
    assert ours.name in message
    assert f"crds sync --files {files[kind].name}" in message
    assert re.search(DAMAGES[damage], message), message
