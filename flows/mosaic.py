"""The main job: raw exposures in, mosaics, catalogues, previews and a run table out.

python flows/mosaic.py                    a synthetic survey, under demo/
python flows/mosaic.py survey.toml        your survey
python flows/mosaic.py --help             every setting
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from prefect import flow
from prefect.states import State

from cosmosaic.astrometry.steps import Aligned, align_bands
from cosmosaic.catalog.steps import MeasuredBand, measure_mosaics
from cosmosaic.cells.steps import SourceMask, bin_exposures, source_masks
from cosmosaic.comparison.steps import sky_step
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.exposures.steps import WriteAssociation
from cosmosaic.exposures.windows import named_tiles, on_grid_of_image, parts_of_sky, survey_windows
from cosmosaic.mosaic.engines import BandInput, open_engine
from cosmosaic.mosaic.steps import ListDefects
from cosmosaic.outliers.steps import FlaggedBand
from cosmosaic.preview.steps import DrawMosaic, draw_colours
from cosmosaic.records import MosaicGrid, Windows
from cosmosaic.sky.steps import BandSky, measure_sky
from cosmosaic.steps.declaration import Outputs, names_of
from cosmosaic.survey import Survey
from cosmosaic.verdict.steps import JudgedSky, judge_sky, write_page
from tasks.calibrate import calibrated_bands
from tasks.catalogs import publish_catalogs
from tasks.find import survey_exposures
from tasks.moves import moves
from tasks.network import publish_network
from tasks.runtime.command import main
from tasks.runtime.report import finish_run, open_run
from tasks.runtime.run import Run
from tasks.simulate import simulate_survey


@dataclass(frozen=True)
class CombinedBand:
    """One filter from its aligned exposures to its mosaics, as submitted."""

    aligned: Aligned
    sky: BandSky
    flagged: FlaggedBand
    verdict: JudgedSky
    measured: MeasuredBand


@flow(name="mosaic", flow_run_name="{survey.name}")
def mosaic(survey: Survey = Survey()) -> State:  # noqa: B008
    """Make mosaics, catalogues, previews and a run table of a NIRCam survey."""
    survey = on_grid_of_image(survey)
    with open_run(survey) as run:
        if survey.is_synthetic:
            simulate_survey(run)
        tiles = named_tiles(survey)
        found = survey_exposures(run, tiles)
        bands, links = dict[str, CombinedBand](), dict[str, dict[str, str]]()
        for name, combined in combine_bands(found, tiles, run):
            bands[name], links[name] = combined, publish_band(combined, run)
        show_all_filters(bands, links, run)
        moved = {name: moves(name, combined.aligned, combined.sky, run) for name, combined in bands.items()}
        return finish_run(run, found, moved)


def combine_bands(found: FoundExposures, tiles: tuple[MosaicGrid, ...], run: Run) -> Iterator[tuple[str, CombinedBand]]:
    """Submit all steps from the raw exposures to the mosaics, and yield each filter as it comes."""
    masks = source_masks(found.exposures, run)
    windows = survey_windows(found.exposures, run.survey, tiles)
    footprints = {one.name: one.footprint for one in found.exposures}
    parts = parts_of_sky(footprints, windows) if run.survey.align.is_network else ()
    for aligned in align_bands(calibrated_bands(found, run), parts, run):
        name = aligned.band.name
        yield name, combine(aligned, windows[name], masks.get(name), run)


def combine(aligned: Aligned, windows: Windows, mask: SourceMask | None, run: Run) -> CombinedBand:
    """Submit all steps from the aligned exposures of one filter to its mosaics, their depths and PSFs."""
    band = aligned.band
    binned = bin_exposures(band, aligned.exposures, windows.whole, mask, run)
    sky = measure_sky(band, aligned.exposures, binned, mask, sky_step(run.survey.sky), run)
    given = BandInput(band, aligned.exposures, sky, windows, binned.grid, aligned.verdict)
    engine = open_engine(given, run.worker_gb, run)
    flagged = engine.flag_outliers()
    verdict = judge_sky(band, binned, flagged, sky, given.tiles_to_judge, run)
    mosaics = {window.tile: engine.assemble(window, verdict.verdict) for window in given.mosaics}
    return CombinedBand(aligned, sky, flagged, verdict, measure_mosaics(given, mosaics, flagged.crfs, run))


def publish_band(combined: CombinedBand, run: Run) -> dict[str, str]:
    """Submit and publish the products of one filter; return file names by their labels on the page."""
    given, verdict, sky = combined.measured.given, combined.verdict, combined.sky
    band, whole = given.band, given.windows.whole
    association = run.submit(WriteAssociation(cals=band.cals, association=band.association), band.name)
    links = names_of(band.association.product_name, verdict, sky.measured)
    described: tuple[Outputs, ...] = (verdict,)
    for window in given.mosaics:
        shown = show(combined, window, run)
        run.publish(given.label(window), shown, given.columns(window), (*shown, verdict))
        if window == whole:
            links, described = names_of(given.stem(window), *shown[:-1]) | links, (*shown, verdict)
    of_band: tuple[Outputs | None, ...] = (verdict, sky.measured, *combined.aligned.products, association)
    run.publish(f"{band.name} sky", of_band, given.columns(whole), described)
    for visit, names in band.visits.items():
        exposures = [files[name] for files in (band.cals, combined.flagged.crfs) for name in names]
        run.publish(f"{band.name} visit {visit}", exposures, given.columns(whole), described)
    return links


def show(combined: CombinedBand, window: MosaicGrid, run: Run) -> tuple[Outputs, ...]:
    """Submit what is published with one mosaic: depth and PSF, defects, pictures, its exposures."""
    measured, given, tile = combined.measured, combined.measured.given, window.tile
    stem, label, mosaic = given.stem(window), given.label(window), measured.mosaics[tile]
    made: list[Outputs] = [mosaic]
    if tile in measured.psfs:
        made += measured.depths[tile], measured.psfs[tile]
    if window in given.catalogued:
        footprints = {name: given.band.footprints[name] for name in given.members(window)}
        verdict = combined.verdict.verdict
        defects = ListDefects(mosaic=mosaic.mosaic, verdict=verdict, window=window, footprints=footprints, stem=stem)
        made.append(run.submit(defects, label))
    made.append(run.submit(DrawMosaic(mosaic=mosaic.mosaic, stem=stem), label))
    made.append(given.list_members(window, run))
    return tuple(made)


def show_all_filters(bands: dict[str, CombinedBand], links: dict[str, dict[str, str]], run: Run) -> None:
    """Submit the products of all filters together: alignment, catalogues and their page, pictures, the sky's page."""
    if not bands:
        return
    measured = {name: combined.measured for name, combined in bands.items()}
    publish_network({name: (one.aligned, one.flagged) for name, one in bands.items()}, measured, run)
    publish_catalogs(measured, run)
    for label, picture in draw_colours({name: one.mosaics for name, one in measured.items()}, run).items():
        run.publish(label, [picture])
    run.publish("sky page", [write_page({name: one.verdict for name, one in bands.items()}, links, run)])


if __name__ == "__main__":
    sys.exit(main(mosaic, sys.argv[1:]))
