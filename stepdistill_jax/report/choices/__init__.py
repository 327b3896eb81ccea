"""How a run with a closed set of labels answers: each class, what is taken for what, and what its probabilities are worth."""
