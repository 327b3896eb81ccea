"""How figures, tables and pages look."""
