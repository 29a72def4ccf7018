"""Stage 1 as compiled functions on arrays, equal to the jwst package's steps to the bit."""
