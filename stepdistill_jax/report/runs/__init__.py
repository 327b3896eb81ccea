"""Runs side by side: their folders, tables, figures and page."""
