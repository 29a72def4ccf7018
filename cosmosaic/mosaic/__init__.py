"""The mosaic engine: pixel grid, tiles, pixel maps, outliers, drizzle."""
