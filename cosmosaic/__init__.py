"""JWST/NIRCam survey mosaics and catalogues as a data product."""

from importlib.metadata import version

__version__ = version("cosmosaic")
