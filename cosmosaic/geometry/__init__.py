"""Sphere, pixel grid, windows, WCS: the ground floor."""
