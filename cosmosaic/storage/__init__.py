"""Object storage and scratch folders."""
