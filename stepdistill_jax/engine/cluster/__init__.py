"""Several processes: joining them, telling who is missing, stopping in time."""
