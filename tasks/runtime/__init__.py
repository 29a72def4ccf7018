"""The plumbing of a run: submission, caching, retries, progress, servers, command line, report."""
