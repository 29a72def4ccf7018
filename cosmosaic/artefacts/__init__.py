"""What detectors leave in exposures: 1/f noise and wisps."""
