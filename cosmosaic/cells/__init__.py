"""Exposures on one coarse lattice of the sky: means over cells a few pixels wide."""
