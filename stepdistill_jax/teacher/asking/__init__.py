"""Asking many questions: at what pace, what is kept, what is shown, when to stop."""
