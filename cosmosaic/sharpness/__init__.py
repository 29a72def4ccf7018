"""Sharpness of a mosaic: its stars against those of single exposures."""
