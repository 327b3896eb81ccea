"""A run's student in the forms that other programs serve: `stepdistill export`. Each is checked when it is written."""
