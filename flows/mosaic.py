"""The main job: raw exposures in, mosaics, catalogues, previews and a run table out.

python flows/mosaic.py                    a synthetic survey, under demo/
python flows/mosaic.py survey.toml        your survey
python flows/mosaic.py --help             every setting
"""

import sys
from dataclasses import dataclass

from prefect import flow
from prefect.states import State

from cosmosaic.astrometry.steps import Aligned, align_bands
from cosmosaic.catalog.steps import MadePsf, submit_catalog, submit_depth
from cosmosaic.cells.steps import SourceMask, bin_exposures, source_masks
from cosmosaic.comparison.steps import sky_step
from cosmosaic.exposures.steps import WriteAssociation
from cosmosaic.exposures.windows import named_tiles, on_grid_of_image, survey_windows
from cosmosaic.geometry.windows import WHOLE
from cosmosaic.mosaic.engines import BandInput, open_engine
from cosmosaic.mosaic.steps import AssembledMosaic, ListDefects
from cosmosaic.preview.steps import DrawColours, DrawMosaic
from cosmosaic.records import MosaicGrid, Windows
from cosmosaic.sharpness.steps import ComparedSharpness, measure_sharpness, write_astrometry_page
from cosmosaic.sky.steps import BandSky, measure_sky
from cosmosaic.steps.declaration import Outputs, names_of
from cosmosaic.steps.files import File
from cosmosaic.survey import Survey
from cosmosaic.verdict.steps import JudgedSky, judge_sky, write_page
from tasks.calibrate import calibrated_bands
from tasks.find import survey_exposures
from tasks.moves import moves
from tasks.runtime.command import main
from tasks.runtime.report import finish_run, open_run
from tasks.runtime.run import Run
from tasks.simulate import simulate_survey


@dataclass(frozen=True)
class BandProducts:
    """The products of one filter, as submitted."""

    aligned: Aligned
    sky: BandSky
    verdict: JudgedSky
    mosaics: dict[str, AssembledMosaic]
    """By window."""
    psfs: dict[str, MadePsf]
    """By window; only of windows that get a catalogue."""
    links: dict[str, str]
    """File names of the products by their labels on the page."""
    sharpness: ComparedSharpness | None = None
    """None where no stars were found."""


@flow(name="mosaic", flow_run_name="{survey.name}")
def mosaic(survey: Survey = Survey()) -> State:  # noqa: B008
    """Make mosaics, catalogues, previews and a run table of a NIRCam survey."""
    survey = on_grid_of_image(survey)
    with open_run(survey) as run:
        if survey.is_synthetic:
            simulate_survey(run)
        tiles = named_tiles(survey)
        found = survey_exposures(run, tiles)
        masks = source_masks(found.exposures, run)
        windows = survey_windows(found.exposures, survey, tiles)
        bands = {
            one.band.name: combine(one, windows[one.band.name], masks.get(one.band.name), run)
            for one in align_bands(calibrated_bands(found, run), run)
        }
        publish_network(bands, run)
        show_all_filters(bands, run)
        moved = {name: moves(name, made.aligned, made.sky, run) for name, made in bands.items()}
        return finish_run(run, found, moved)


def combine(aligned: Aligned, windows: Windows, mask: SourceMask | None, run: Run) -> BandProducts:
    """Submit all steps from the aligned exposures of one filter to its products."""
    band = aligned.band
    association = run.submit(WriteAssociation(cals=band.cals, association=band.association), band.name)
    binned = bin_exposures(band, aligned.exposures, windows.whole, mask, run)
    sky = measure_sky(band, aligned.exposures, binned, mask, sky_step(run.survey.sky), run)
    given = BandInput(band, aligned.exposures, sky, windows, binned.grid, aligned.verdict)
    engine = open_engine(given, run.worker_gb, run)
    flagged = engine.flag_outliers()
    verdict = judge_sky(band, binned, flagged, sky, given.tiles_to_judge, run)
    mosaics = {window.tile: engine.assemble(window, verdict.verdict) for window in given.mosaics}
    whole = mosaics[windows.whole.tile].mosaic
    sharpness = measure_sharpness(aligned, flagged.crfs, whole, windows.whole, run)
    of_band: tuple[Outputs | None, ...] = (verdict, sky.measured, *aligned.products)
    links, psfs = names_of(band.association.product_name, verdict, sky.measured, sharpness), dict[str, MadePsf]()
    for window in given.mosaics:
        shown = (*measure(given, window, mosaics[window.tile], verdict, run), verdict)
        psfs.update((window.tile, made) for made in shown if isinstance(made, MadePsf))
        columns = given.columns(window)
        run.publish(given.label(window), (mosaics[window.tile], *shown[:-1]), columns, shown)
        if window == windows.whole:
            links = names_of(given.stem(window), mosaics[window.tile], *shown[:-1]) | links
            run.publish(f"{band.name} sky", of_band, columns, shown)
            exposures: tuple[Outputs | File, ...] = (*band.cals.values(), *flagged.crfs.values(), association)
            run.publish(f"{band.name} exposures", exposures, columns, shown)
    if sharpness:
        run.publish(f"{band.name} sharpness", [sharpness], given.columns(windows.whole))
    return BandProducts(aligned, sky, verdict, mosaics, psfs, links, sharpness)


def publish_network(bands: dict[str, BandProducts], run: Run) -> None:
    """Publish the one solution that aligned the exposures of all filters, if it did, with their stars and its page."""
    solved = next((made.aligned.network for made in bands.values() if made.aligned.network), None)
    if not solved:
        return
    run.publish("alignment", (solved, *(stars for made in bands.values() for stars in made.aligned.stars)))
    sharpness = {name: made.sharpness for name, made in bands.items() if made.sharpness}
    run.publish("astrometry page", [write_astrometry_page(solved, sharpness, run)])


def measure(
    given: BandInput, window: MosaicGrid, mosaic: AssembledMosaic, verdict: JudgedSky, run: Run
) -> tuple[Outputs, ...]:
    """Submit the products of one mosaic: depth and PSF, defects, pictures, its exposures."""
    stem, label, made = given.stem(window), given.label(window), list[Outputs]()
    # With named tiles the whole may be too large for memory.
    if window != given.windows.whole or not given.windows.tiles:
        if run.survey.drizzle.errors != "none":
            made += submit_depth(mosaic, given.band.name, stem, label, run)
        footprints = {name: given.band.footprints[name] for name in given.members(window)}
        defects = ListDefects(
            mosaic=mosaic.mosaic, verdict=verdict.verdict, window=window, footprints=footprints, stem=stem
        )
        made.append(run.submit(defects, label))
    made.append(run.submit(DrawMosaic(mosaic=mosaic.mosaic, stem=stem), label))
    made.append(given.list_members(window, run))
    return tuple(made)


def show_all_filters(bands: dict[str, BandProducts], run: Run) -> None:
    """Submit the products of all filters together: catalogues, the colour picture and the page on the sky."""
    if not bands:
        return
    windows = by_window(bands)
    for tile, mosaics in windows.items():
        psfs = {band: made.psfs[tile] for band, made in bands.items() if tile in made.psfs}
        if psfs:
            run.publish(f"catalogue {tile}", [submit_catalog(mosaics, psfs, tile, run)], {"tile": tile})
    whole = windows[WHOLE]
    picture = DrawColours(mosaics={band: made.mosaic for band, made in whole.items()}, stem=f"{run.survey.name}_colour")
    run.publish("colour picture", [run.submit(picture, ", ".join(whole))])
    verdicts, links = {name: made.verdict for name, made in bands.items()}, {n: made.links for n, made in bands.items()}
    run.publish("sky page", [write_page(verdicts, links, run)])


def by_window(bands: dict[str, BandProducts]) -> dict[str, dict[str, AssembledMosaic]]:
    """Return the mosaics of each window by filter, for steps over all filters of a window."""
    tiles = dict.fromkeys(tile for made in bands.values() for tile in made.mosaics)
    return {tile: {name: made.mosaics[tile] for name, made in bands.items() if tile in made.mosaics} for tile in tiles}


if __name__ == "__main__":
    sys.exit(main(mosaic, sys.argv[1:]))
