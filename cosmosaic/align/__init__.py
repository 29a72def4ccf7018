"""Astrometry of the exposures of one filter: corrections of their WCS, which stay when exposures are added."""
