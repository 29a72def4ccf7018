"""Artefacts of the detectors and optics: 1/f noise and wisps."""
