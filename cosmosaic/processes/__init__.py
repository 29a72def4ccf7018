"""Child processes for the work with jwst."""
