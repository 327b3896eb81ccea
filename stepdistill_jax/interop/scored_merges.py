"""The merges of a vocabulary whose pieces have scores, as SentencePiece's of byte pairs."""

from collections.abc import Mapping


def merges_of_scores(scores: Mapping[str, float]) -> list[list[str]]:
    """Every pair of pieces that makes a piece, the best scored piece first: the order in which SentencePiece merges."""
    merges = [
        (-score, [piece[:cut], piece[cut:]])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return [pair for _, pair in sorted(merges, key=lambda merge: merge[0])]
