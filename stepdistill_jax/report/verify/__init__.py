"""`stepdistill verify`: whether a folder holds what it says, and belongs to what it came from."""
