"""Greedy and temperature sampling, and beam search."""
