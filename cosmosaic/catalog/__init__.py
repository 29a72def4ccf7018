"""Catalogues of mosaics: detection, photometry, errors and flags."""
