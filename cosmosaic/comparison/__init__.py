"""All sky methods on the same exposures, ranked."""
