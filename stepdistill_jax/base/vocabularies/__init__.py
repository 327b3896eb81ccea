"""Vocabularies as their files hold them: SentencePiece's models, and tokenizer.json."""
