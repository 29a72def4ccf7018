"""The files under the raw prefix: headers, exposures, tables, associations."""
