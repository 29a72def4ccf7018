"""A synthetic NIRCam survey with a known truth, and the small CRDS cache that lets it be calibrated offline."""
