"""Catalogues of mosaics: detection, photometry, errors and flags."""

from cosmosaic.catalog.flags import CatalogFlag, decode_flags

__all__ = ["CatalogFlag", "decode_flags"]
