"""A table made into a dataset: its rows read, its labels counted, its splits cut, examples and description written."""
