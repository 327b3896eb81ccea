"""Where T5's SentencePiece model comes from and lies; nothing is imported or opened here."""

from pathlib import Path

T5_VOCABULARY_URL = "https://storage.googleapis.com/t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
T5_VOCABULARY_SHA256 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"
T5_EXTRA_IDS = 100


def t5_vocabulary_path(data_dir: Path) -> Path:
    """DATA/vocabularies/t5.model."""
    return data_dir / "vocabularies" / "t5.model"
