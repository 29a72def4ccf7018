"""From the calibrated exposures of one filter to its products."""

from collections.abc import Mapping
from dataclasses import dataclass

from prefect.futures import PrefectFuture

from cosmosaic import store
from cosmosaic.filters import star_fwhm_pixels
from cosmosaic.records import Association, Frame, MosaicGrid, StoredObject
from tasks.align import align_exposures
from tasks.associations import write_association
from tasks.catalog import catalog_mosaic
from tasks.defects import list_defects
from tasks.engines import ENGINES, BandInput
from tasks.flatness import judge_band, measure_band, without_wisps
from tasks.preview import composite_mosaics, preview_mosaic
from tasks.publish import publish_objects
from tasks.run import Run

PRODUCT_ENDINGS = (
    "_i2d.fits", "_cat.ecsv", "_cat.parquet", "_segm.fits", ".png", "_sky.ecsv", "_verdict.ecsv", "_skymask.fits",
    "_defects.ecsv", "_wisp.ecsv", "_wisp.fits",
)  # fmt: skip
EXPOSURE_ENDINGS = ("_cal.fits", "_crf.fits", "_asn.json")


@dataclass(frozen=True)
class BandFutures:
    """What is being made for one filter."""

    association: Association
    stem: str
    """Name of the mosaic without suffix and extension."""
    mosaic: PrefectFuture
    catalog: PrefectFuture | None
    """None where the mosaic has no errors to measure with."""
    verdict: PrefectFuture
    published: PrefectFuture
    exposures: PrefectFuture


def combine_band(
    association: Association,
    exposures: Mapping[str, StoredObject],
    frames: Mapping[str, Frame],
    grid: MosaicGrid,
    run: Run,
) -> BandFutures:
    """Submit all steps from the calibrated exposures of one filter to its published products."""
    survey, band = run.survey, association.band
    stem = f"{association.product_name}_{grid.pixel_scale_mas:g}mas_{grid.tile}"
    cals = {name: exposures[name] for name in association.members}
    asn = run.submit(write_association, band, association=association, exposures=tuple(cals.values()))
    cleaned, wisps = without_wisps(association, cals, frames, run)
    aligned = _aligned(cleaned, association, run)
    sky = measure_band(association, aligned, grid, run)
    footprints = {name: frame.footprint for name, frame in frames.items()}
    mosaic, flagged = ENGINES[survey.engine](
        BandInput(association, sky.exposures, sky.levels, grid, footprints, stem), run
    )
    verdict = judge_band(association, sky, flagged, run)
    members = {name: footprints[name] for name in association.members}
    defects = run.submit(list_defects, band, mosaic=mosaic, verdict=verdict, grid=grid, footprints=members, stem=stem)
    catalog = _catalog(mosaic, band, stem, run)
    preview = run.submit(preview_mosaic, band, mosaic=mosaic, stem=stem)
    made = tuple(future for future in (mosaic, catalog, preview, sky.levels, verdict, defects, *wisps) if future)
    published = run.submit(publish_objects, band, objects=made, target=run.products, endings=PRODUCT_ENDINGS)
    kept = run.submit(
        publish_objects,
        f"{band} exposures",
        objects=(*cals.values(), *flagged, asn),
        target=store.join(run.products, "exposures"),
        endings=EXPOSURE_ENDINGS,
    )
    return BandFutures(association, stem, mosaic, catalog, verdict, published, kept)


def _aligned(
    cals: tuple[StoredObject | PrefectFuture, ...], association: Association, run: Run
) -> tuple[StoredObject | PrefectFuture, ...]:
    settings = run.survey.align
    if not settings.enabled:
        return cals
    own = settings.reference_catalog if settings.reference_catalog and "." in settings.reference_catalog else None
    aligned = run.submit(
        align_exposures,
        association.band,
        exposures=cals,
        catalog=store.checksum(own, run.work.checksums) if own else None,
        settings=settings,
        fwhm_pixels=star_fwhm_pixels(association.filter),
    )
    return (aligned,)


def _catalog(mosaic: PrefectFuture, band: str, stem: str, run: Run) -> PrefectFuture | None:
    if run.survey.drizzle.errors == "none":
        return None
    return run.submit(catalog_mosaic, band, mosaic=mosaic, settings=run.survey.catalog, band=band, stem=stem)


def composite(bands: list[BandFutures], run: Run) -> PrefectFuture | None:
    """Submit the colour picture of the filters whose mosaics were made."""
    made = run.results({band.association.band: band.mosaic for band in bands})
    if not made:
        return None
    picture = run.submit(
        composite_mosaics,
        ", ".join(made),
        mosaics=tuple(made.values()),
        bands=tuple(made),
        stem=f"{run.survey.name}_colour",
    )
    return run.submit(publish_objects, "colour picture", objects=(picture,), target=run.products)
