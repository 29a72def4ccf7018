"""Prefect tasks: each wraps one step of the library with retries, a cache key and artifacts. No science here."""
