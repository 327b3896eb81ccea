"""A student that answers at once, as `stepdistill_jax.Predictor` does; the texts say how it shall misbehave."""

import dataclasses
import threading
import time

CHOICES = ("urgent", "later")
UNKNOWN = {*map(chr, range(0x4E00, 0x4E00 + 30)), "\n"}


@dataclasses.dataclass(frozen=True)
class Answer:
    label: str | None
    probability: float | None
    probabilities: dict[str, float]
    rationale: str | None
    truncated: bool


class FakeStudent:
    """A text's first letter decides: 'u' is urgent, all else later. Tokens are words. It knows no line breaks, and 30 Chinese characters not.

    'fail' raises. 'nan' gives a probability that is none. 'nothing' has no answer. `gate`, once set to an unset event, holds every batch back.
    """

    choices = CHOICES
    max_input_tokens = 64

    def __init__(self, *, seconds=0.0):
        self.seconds, self.batches = seconds, []
        self.gate = threading.Event()
        self.gate.set()
        self.is_warm = False
        self.writes_rationales = True

    def warm_up(self):
        self.is_warm = True

    def check_writes_rationales(self):
        if not self.writes_rationales:
            raise ValueError("this student has learnt no rationales; leave rationale out.")

    def num_tokens(self, texts):
        return [len(text.split()) for text in texts]

    def lost_characters(self, texts):
        return sorted(set("".join(texts)) & UNKNOWN)

    def __call__(self, texts, *, rationale=False, abstain_below=0.0):
        self.batches.append(list(texts))
        assert self.gate.wait(30)
        time.sleep(self.seconds)
        if any(text.startswith("fail") for text in texts):
            raise RuntimeError("no such thing")
        return [self._answer(text, rationale) for text in texts]

    def _answer(self, text, rationale):
        if text == "nothing":
            return Answer(None, None, {}, None, False)
        urgent = 0.9 if text.startswith("u") else 0.25
        if text.startswith("nan"):
            urgent = float("nan")
        label = "urgent" if urgent > 0.5 else "later"
        return Answer(
            label,
            max(urgent, 1 - urgent),
            {"urgent": urgent, "later": 1 - urgent},
            f"because of {text}" if rationale else None,
            len(text.split()) > self.max_input_tokens,
        )
