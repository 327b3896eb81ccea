"""What came from what: records told by their content, and whether those that meet belong together."""
