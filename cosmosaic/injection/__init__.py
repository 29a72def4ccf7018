"""Sources of known flux put into the exposures, to measure what the catalogue finds of them, and how well."""
