"""Train states on disk: saved, found, read in every layout, restored into a model."""
