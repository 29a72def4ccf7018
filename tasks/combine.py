"""From the calibrated exposures of one filter to its products."""

from dataclasses import dataclass
from functools import partial

from prefect.futures import PrefectFuture

from cosmosaic.geometry.windows import make_plan
from cosmosaic.records import Association, MosaicGrid, Windows
from cosmosaic.storage import store
from tasks.align import AlignmentFutures, align_band
from tasks.associations import write_association
from tasks.calibrate import CalibratedBand
from tasks.catalog import catalog_mosaic
from tasks.defects import list_defects
from tasks.engines import ENGINES, BandInput, Combined
from tasks.flatness import SkyFutures, holders, judge_band, measure_band, without_wisps
from tasks.preview import composite_mosaics, preview_mosaic
from tasks.publish import publish_objects
from tasks.runtime.run import Run
from tasks.source_masks import SourceMask

PRODUCT_ENDINGS = (
    "_i2d.fits", "_cat.ecsv", "_cat.parquet", "_segm.fits", ".png", "_sky.ecsv", "_verdict.ecsv", "_skymask.fits",
    "_tiles.ecsv", "_defects.ecsv", "_wisp.ecsv", "_wisp.fits", "_align.ecsv",
)  # fmt: skip
EXPOSURE_ENDINGS = ("_cal.fits", "_crf.fits", "_asn.json")


@dataclass(frozen=True)
class MosaicFutures:
    """What is being made of one window of one filter."""

    window: MosaicGrid
    members: tuple[str, ...]
    """Names of the exposures that reach it."""
    stem: str
    """Name of the mosaic without suffix and extension."""
    mosaic: PrefectFuture
    catalog: PrefectFuture | None
    """None where the mosaic has no errors to measure with, or named tiles have catalogues of their own."""
    published: PrefectFuture


@dataclass(frozen=True)
class BandFutures:
    """What is being made for one filter."""

    association: Association
    mosaics: tuple[MosaicFutures, ...]
    """The whole, then the named tiles."""
    alignment: AlignmentFutures
    sky: SkyFutures
    verdict: PrefectFuture
    exposures: PrefectFuture

    @property
    def whole(self) -> MosaicFutures:
        """The mosaic of all."""
        return self.mosaics[0]


def combine_band(calibrated: CalibratedBand, windows: Windows, mask: SourceMask | None, run: Run) -> BandFutures:
    """Submit all steps from the calibrated exposures of one filter to its published products."""
    association, frames, cals = calibrated.association, calibrated.frames, calibrated.cals
    survey, band = run.survey, association.band
    asn = run.submit(write_association, band, association=association, exposures=tuple(cals.values()))
    cleaned, wisps = without_wisps(association, cals, frames, run)
    aligned = align_band(association, cals, cleaned, frames, run)
    sky = measure_band(association, aligned.exposures, frames, windows.whole, mask, run)
    footprints = {name: frames[name].footprint for name in association.members}
    given = BandInput(association, aligned.exposures, sky.levels, windows, footprints, sky.grid)
    tiles = windows.tiles or make_plan(footprints, windows.whole).tiles
    combined = ENGINES[survey.engine](given, partial(judge_band, association, sky, tiles, run), run)
    of_band = tuple(future for future in (aligned.solution, sky.levels, combined.verdict, *wisps) if future)
    whole = _finished(given, windows.whole, combined, of_band, run)
    named = (_finished(given, tile, combined, (), run) for tile in given.mosaics[1:])
    kept = run.submit(
        publish_objects,
        f"{band} exposures",
        objects=(*cals.values(), *holders(combined.flagged), asn),
        target=store.join(run.products, "exposures"),
        endings=EXPOSURE_ENDINGS,
    )
    return BandFutures(association, (whole, *named), aligned, sky, combined.verdict, kept)


def _finished(
    given: BandInput,
    window: MosaicGrid,
    combined: Combined,
    others: tuple[PrefectFuture, ...],
    run: Run,
) -> MosaicFutures:
    """Submit what is made of one mosaic, and its publication with other products of its filter."""
    stem, label, mosaic, members = (
        given.stem(window), given.label(window), combined.mosaics[window.tile], given.members(window)
    )  # fmt: skip
    made, catalog = [mosaic], None
    # The whole may be too large for any memory; named tiles are for that.
    if window != given.windows.whole or not given.windows.tiles:
        # The longest first, so that it does not run alone at the end.
        catalog = _catalog(mosaic, given.association.band, label, stem, run)
        footprints = {name: given.footprints[name] for name in members}
        made.append(
            run.submit(
                list_defects,
                label,
                mosaic=mosaic,
                verdict=combined.verdict,
                grid=window,
                footprints=footprints,
                stem=stem,
            )
        )
    made.append(run.submit(preview_mosaic, label, mosaic=mosaic, stem=stem))
    made += [future for future in (catalog, *others) if future]
    published = run.submit(publish_objects, label, objects=tuple(made), target=run.products, endings=PRODUCT_ENDINGS)
    return MosaicFutures(window, members, stem, mosaic, catalog, published)


def _catalog(mosaic: PrefectFuture, band: str, label: str, stem: str, run: Run) -> PrefectFuture | None:
    if run.survey.drizzle.errors == "none":
        return None
    return run.submit(catalog_mosaic, label, mosaic=mosaic, settings=run.survey.catalog, band=band, stem=stem)


def composite(bands: list[BandFutures], run: Run) -> PrefectFuture | None:
    """Submit the colour picture of the filters whose mosaics were made."""
    made = run.results({band.association.band: band.whole.mosaic for band in bands})
    if not made:
        return None
    picture = run.submit(
        composite_mosaics,
        ", ".join(made),
        mosaics=tuple(made.values()),
        bands=tuple(made),
        stem=f"{run.survey.name}_colour",
    )
    return run.submit(publish_objects, "colour picture", objects=(picture,), target=run.products, endings=(".png",))
