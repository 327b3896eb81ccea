"""Gin files and flags: read, checked, and their errors in one line."""
