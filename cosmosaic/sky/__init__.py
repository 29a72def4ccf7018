"""The sky background of exposures: cleaned of stripes and wisps, measured, taken out, and judged."""
