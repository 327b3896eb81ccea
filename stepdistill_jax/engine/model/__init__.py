"""The T5 network, its loss and its metrics."""
