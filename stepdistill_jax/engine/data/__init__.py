"""From SeqIO tasks to packed batches: tokens, draws, rows, and where the stream stands."""
