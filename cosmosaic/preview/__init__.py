"""Pictures of mosaics."""
