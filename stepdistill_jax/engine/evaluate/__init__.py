"""Scores and predictions of a checkpoint, through SeqIO."""
