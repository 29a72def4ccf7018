"""Is the sky flat? Measured, judged, shown."""
