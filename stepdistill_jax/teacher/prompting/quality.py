"""Rules that keep bad rationales from students; each is off by default. Pure functions over parsed answers."""

import dataclasses
import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from stepdistill_jax.datasets import equations
from stepdistill_jax.teacher.answers.parsing import ParsedCompletion
from stepdistill_jax.teacher.prompting.prompt_files import normalised

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Dataset

NOT_GOLD = "label is not the gold label"
NO_GOLD = "no gold label to compare with"
DUPLICATE = "rationale occurs before"


@dataclasses.dataclass(frozen=True)
class QualityRules:
    """What a rationale must be like for a student to learn from it.

    Attributes:
      samples: answers asked for each question; above 1, their majority decides the label (self-consistency, Wang et al.
        2022, arXiv:2203.11171).
      min_votes: the least number of samples that must agree, 0 for any.
      only_correct: drops what does not have the gold label.
      rationalise: asks again, with the gold label as a hint, where the answer is unparsed or wrong, and takes the
        rationale if it leads to that label (STaR, Zelikman et al. 2022, arXiv:2203.14465).
      max_rationale_words: drops longer ones; 0 for any length.
      max_label_words: likewise for the label.
      drop_duplicates: drops a rationale that an earlier question of the split has, case and punctuation aside.
    """

    samples: int = 1
    min_votes: int = 0
    only_correct: bool = False
    rationalise: bool = False
    max_rationale_words: int = 0
    max_label_words: int = 0
    drop_duplicates: bool = False

    def __post_init__(self) -> None:
        for name in ("min_votes", "max_rationale_words", "max_label_words"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name}={getattr(self, name)}; use 0 (no limit) or more.")
        if self.samples < 1:
            raise ValueError(f"--samples={self.samples}; ask for 1 answer or more.")
        if self.min_votes > self.samples:
            raise ValueError(f"--min_votes={self.min_votes} of --samples={self.samples} can never agree.")


@dataclasses.dataclass(frozen=True)
class Vote:
    """The majority among samples: `chosen` is the place of the sample that stands for it, `votes` how many agree."""

    chosen: int
    votes: int


def majority(samples: Sequence[ParsedCompletion], *, equation: bool) -> Vote | None:
    """The label that most samples give, None if no sample was parsed.

    Equations are the same if their values are. Among equally frequent labels the earliest wins. The sample chosen is the
    first that has the label, so its rationale leads to it.
    """
    members: dict[Fraction | str, list[int]] = {}
    for place, sample in enumerate(samples):
        if not sample.unparsed_reason:
            value = equations.evaluate(sample.label) if equation else None
            members.setdefault(sample.label if value is None else value, []).append(place)
    if not members:
        return None
    largest = max(members.values(), key=len)  # max keeps the first of equals
    return Vote(chosen=largest[0], votes=len(largest))


def dropped_reason(
    parsed: ParsedCompletion,
    *,
    rules: QualityRules,
    dataset: "Dataset",
    gold: str | None,
    votes: int = 1,
) -> str:
    """Why a parsed answer is not to be learnt from, '' if it is. Duplicates are told by `Duplicates`."""
    from stepdistill_jax.datasets import labels_match

    if parsed.unparsed_reason:
        return ""
    if votes < rules.min_votes:
        return f"fewer than {rules.min_votes} of {rules.samples} samples agree"
    if rules.only_correct and gold is None:
        return NO_GOLD
    if rules.only_correct and not labels_match(dataset, parsed.label, gold or ""):
        return NOT_GOLD
    if rules.max_rationale_words and len(parsed.rationale.split()) > rules.max_rationale_words:
        return f"rationale has more than {rules.max_rationale_words} words"
    if rules.max_label_words and len(parsed.label.split()) > rules.max_label_words:
        return f"label has more than {rules.max_label_words} words"
    return ""


class Duplicates:
    """Tells whether a rationale was seen before in its split. Keeps 16 bytes of each."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def seen_before(self, split: str, rationale: str) -> bool:
        text = f"{split}\0{normalised(rationale)}"
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        before = digest in self._seen
        self._seen.add(digest)
        return before
