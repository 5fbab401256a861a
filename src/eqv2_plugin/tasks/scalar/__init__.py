"""Numbers of structures, one each, as a table."""
