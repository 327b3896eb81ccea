"""A student behind a URL: `stepdistill serve`. HTTP, the queue before the model, and the batches that it is asked in."""
