"""Stages 1 and 2, and the reference files they need."""
