"""Decoder-only families, as data: SmolLM2 and Llama 3, Qwen2.5, Qwen3, Gemma 3; and their tokenizers."""
