"""The steps that make files for users from mosaics and exposures."""

from pathlib import Path

from cosmosaic.catalogue import measure_mosaic, write_catalog
from cosmosaic.exposures.associations import association_json
from cosmosaic.exposures.library import exposure_name
from cosmosaic.preview.composite import write_colour_composite
from cosmosaic.preview.mosaic import write_preview, write_weight_preview
from cosmosaic.preview.thumbnails import write_thumbnail
from cosmosaic.records import Association, Made
from cosmosaic.survey import CatalogSettings


def write_association(paths: list[Path], association: Association, folder: Path) -> Made:
    """Write the association of one filter for the ``_cal`` files that were made of its members."""
    files = {exposure_name(path.name): path.name for path in paths}
    path = folder / f"{association.product_name}_asn.json"
    path.write_text(association_json(association, files))
    return Made([path])


def catalog_mosaic(paths: list[Path], settings: CatalogSettings, band: str, stem: str, folder: Path) -> Made:
    """Measure the sources of a mosaic (``_i2d``) and its noise; write catalogue and segmentation map."""
    (mosaic,) = paths
    catalog = measure_mosaic(mosaic, settings, band)
    files = write_catalog(catalog, folder, stem)
    facts = {name: value for name, value in catalog.statistics.model_dump().items() if value is not None}
    return Made([files.ecsv, files.parquet, files.segments], facts)


def preview_mosaic(paths: list[Path], stem: str, folder: Path) -> Made:
    """Draw a mosaic (``_i2d``) and its weight, and a thumbnail of it."""
    (mosaic,) = paths
    pictures = [folder / f"{stem}.png", folder / f"{stem}_wht.png"]
    write_preview(mosaic, pictures[0])
    write_weight_preview(mosaic, pictures[1])
    return Made([*pictures, write_thumbnail(pictures[0])])


def composite_mosaics(paths: list[Path], bands: tuple[str, ...], stem: str, folder: Path) -> Made:
    """Draw mosaics of several filters as one colour picture, and a thumbnail of it."""
    picture = folder / f"{stem}.png"
    write_colour_composite(dict(zip(bands, paths, strict=True)), picture)
    return Made([picture, write_thumbnail(picture)])
