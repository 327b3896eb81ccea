"""T5 and its families: sizes, names and settings as Hugging Face and T5X have them, and their SentencePiece tokenizers."""
