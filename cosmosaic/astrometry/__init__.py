"""Alignment of exposures: stars, corrections, WCS."""
