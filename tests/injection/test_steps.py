"""What an injection submits: only exposures that sources reach are changed."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from cosmosaic.catalog.steps import measure_mosaics, number_catalogs, submit_catalogs, submit_images
from cosmosaic.drizzle.steps import DrizzleExposure
from cosmosaic.exposures.band import Band
from cosmosaic.exposures.files import Cal
from cosmosaic.geometry.grid import pixel_to_sky
from cosmosaic.injection.steps import InjectSources, MatchInjected, inject, require_errors
from cosmosaic.mosaic.engines import BandInput, open_engine
from cosmosaic.mosaic.steps import AssembleMosaic
from cosmosaic.records import Association, Exposure, Lattice, MosaicGrid, StoredObject, Windows
from cosmosaic.sky.steps import BandSky
from cosmosaic.steps.declaration import Step
from cosmosaic.survey import DrizzleSettings, InjectionSettings, Survey

BAND = "F444W"
WORKER_GB = 4.0


@dataclass
class Recorder:
    """A job that only keeps what is submitted."""

    survey: Survey
    products: str = ""
    checksums: str = ""
    submitted: list[tuple[str, Step]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def submit(self, step: Step, label: str) -> Any:
        self.submitted.append((label, step))
        return type(step).outputs.promised(step)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def of(self, kind: type[Step]) -> list[tuple[str, Step]]:
        return [(label, step) for label, step in self.submitted if isinstance(step, kind)]


def window(tile: str, left: int, columns: int) -> MosaicGrid:
    return MosaicGrid(
        tangent_ra=150.1, tangent_dec=2.2, rotation=0.0, pixel_scale_mas=30.0,
        crpix=(-left - 0.5, -0.5), shape=(1000, columns), tile=tile,
    )  # fmt: skip


WHOLE = window("full", 0, 5000)
TILE = window("west", 0, 1000)


def exposure(name: str, left: float) -> Exposure:
    """An exposure of 1000 by 1000 pixels of the mosaic, at some column of it."""
    corners = [(left, 0.0), (left + 1000, 0.0), (left + 1000, 1000.0), (left, 1000.0)]
    stored = StoredObject(uri=f"/raw/{name}_cal.fits", sha256=name[0] * 64, size=1)
    return Exposure(
        object=stored, level="cal", program="1", observation="1", visit="1", exposure=name, detector="NRCBLONG",
        filter=BAND, pupil="CLEAR", subarray="FULL", start="2023-01-01T00:00:00", exposure_time=100.0,
        footprint=tuple((float(ra), float(dec)) for ra, dec in pixel_to_sky(WHOLE, corners)),
    )  # fmt: skip


EXPOSURES = {each.exposure: each for each in (exposure("near", 0.0), exposure("far", 4000.0))}


def injected(windows: Windows, **settings: Any) -> Recorder:
    job = Recorder(Survey(name="field", raw="/raw", injection=InjectionSettings(sources=40, **settings)))
    association = Association(
        product_name="field_f444w", band=BAND, filter=BAND, pupil="CLEAR", members=tuple(sorted(EXPOSURES))
    )
    cals = {name: Cal(each.object) for name, each in EXPOSURES.items()}
    cells = Lattice(tangent_ra=150.1, tangent_dec=2.2, rotation=0.0, pixel_scale_mas=504.0)
    given = BandInput(Band(association, EXPOSURES, cals), cals, BandSky(), windows, cells)
    engine = open_engine(given, WORKER_GB, job)
    flagged = engine.flag_outliers()
    mosaics = {each.tile: engine.assemble(each, None) for each in given.mosaics}
    measured = {BAND: measure_mosaics(given, mosaics, flagged.crfs, job)}
    catalogs = submit_catalogs(measured, submit_images(measured, job), job)
    inject(measured, catalogs, number_catalogs(catalogs, (BAND,), job).windows, WORKER_GB, job)
    return job


def test_an_exposure_that_no_source_reaches_stays_as_it_is():
    job = injected(Windows(WHOLE, (TILE,)))
    assert {label.split(",")[0] for label, _ in job.of(InjectSources)} == {"near"}
    drizzled = [step for label, step in job.of(DrizzleExposure) if label.startswith("far")]
    assert len(drizzled) > 1
    # Equal steps have equal keys: nothing is repeated.
    assert all(step == drizzled[0] for step in drizzled)
    changed = [step.exposure for label, step in job.of(DrizzleExposure) if label.startswith("near")]
    assert not any(one == other for number, one in enumerate(changed) for other in changed[:number])


def test_without_tiles_sources_are_injected_into_the_whole_mosaic():
    job = injected(Windows(WHOLE))
    assert {label.split(",")[0] for label, _ in job.of(InjectSources)} == {"near", "far"}
    assert {step.window.tile for _, step in job.of(AssembleMosaic)} == {"full"}


def test_only_windows_with_a_catalogue_are_made_again():
    job = injected(Windows(WHOLE, (TILE,)))
    again = [step.window.tile for label, step in job.of(AssembleMosaic) if ", injection " in label]
    assert set(again) == {"west"}


def test_every_round_is_matched_with_its_own_sources():
    job = injected(Windows(WHOLE, (TILE,)), per_arcmin2=60.0)
    ((_, match),) = job.of(MatchInjected)
    assert len(match.drawn) == len(match.catalogs) == len(match.tiles) > 1
    assert len({one.source.node.draw.number for one in match.drawn}) == len(match.drawn)


def test_fewer_sources_than_wanted_are_told():
    job = injected(Windows(WHOLE, (TILE,)), per_arcmin2=5.0)
    assert any("only 20 of 40 sources fit into 20 rounds" in note for note in job.notes)
    assert not any("only" in note for note in injected(Windows(WHOLE)).notes)


def test_without_exposures_there_is_nothing_to_inject_into():
    with pytest.raises(ValueError, match="no exposure could be used"):
        inject({}, {}, {}, WORKER_GB, Recorder(Survey(name="field", raw="/raw")))


def test_mosaics_without_errors_are_refused():
    without = DrizzleSettings(errors="none")
    with pytest.raises(ValueError, match=r"needs drizzle\.errors"):
        require_errors(Survey(name="field", raw="/raw", drizzle=without))
    with pytest.raises(ValueError, match=r"injection\.with_products tests the catalogue"):
        Survey(name="field", raw="/raw", drizzle=without, injection=InjectionSettings(with_products=True))
    require_errors(Survey(name="field", raw="/raw"))
