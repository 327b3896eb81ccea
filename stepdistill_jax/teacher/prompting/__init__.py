"""Worked examples to prompts, and a model's answers to rationales and labels."""
