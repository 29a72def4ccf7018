"""Catalogues of mosaics: detection, photometry, errors and flags."""

from cosmosaic.catalog.mosaic import CatalogFiles, MosaicCatalog, measure_mosaic, write_catalog
from cosmosaic.catalog.noise import MosaicStatistics
from cosmosaic.catalog.photometry import CatalogFlag

__all__ = [
    "CatalogFiles",
    "CatalogFlag",
    "MosaicCatalog",
    "MosaicStatistics",
    "measure_mosaic",
    "write_catalog",
]
