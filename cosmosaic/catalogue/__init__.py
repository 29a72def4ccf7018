"""Catalogues of mosaics: detection, photometry, errors and flags."""

from cosmosaic.catalogue.measure import CatalogFiles, MosaicCatalog, measure_mosaic, write_catalog
from cosmosaic.catalogue.noise import MosaicStatistics
from cosmosaic.catalogue.photometry import CatalogFlag

__all__ = [
    "CatalogFiles",
    "CatalogFlag",
    "MosaicCatalog",
    "MosaicStatistics",
    "measure_mosaic",
    "write_catalog",
]
