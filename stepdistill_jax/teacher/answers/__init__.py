"""What is asked and answered: requests, completions, how they are read, scored and recorded."""
