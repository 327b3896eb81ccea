"""One training step on a mesh, and the train state that it begins with."""
