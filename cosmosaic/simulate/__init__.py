"""A synthetic NIRCam survey with a known truth, and a small CRDS cache to calibrate it offline."""
