"""The loop around the step: next batch, step, log, evaluate, save; and what a run's folder holds."""
