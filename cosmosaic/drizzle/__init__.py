"""One exposure drizzled onto the survey's pixel lattice."""
