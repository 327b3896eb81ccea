"""Optimizers, learning-rate schedules, and the state that they change."""
