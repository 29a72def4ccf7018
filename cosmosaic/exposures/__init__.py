"""What lies under the raw prefix: headers, exposures, tables, associations."""
