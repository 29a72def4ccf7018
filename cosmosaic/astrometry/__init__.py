"""Where the exposures lie on the sky: stars, corrections, WCS."""
