"""Cosmic rays that Stage 1 missed, found by comparing exposures."""
