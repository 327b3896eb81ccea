"""How near a student's rationales are to the teacher's, and whether they end where the student's label does."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stepdistill_jax.datasets import equations
from stepdistill_jax.report.sweep.runs import SweepRun

MOST_ROWS = 1_000  # evenly spaced, are scored: ROUGE takes about a millisecond a row
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class RationaleQuality:
    """Scores of one run in percent; None where the teacher's rationales are not beside the student's."""

    num_rows: int
    rouge_1: float | None
    rouge_l: float | None
    bleu: float | None
    supports: float  # rationales whose last sentence has the predicted label
    teacher_supports: float | None  # the teacher's rationales and the gold label, for comparison
    mean_words: float


def rationale_quality(
    run: SweepRun, teachers: Mapping[str, str] = MappingProxyType({})
) -> RationaleQuality | None:
    """The quality of the rationales a run wrote on the test split; None if it wrote none.

    `teachers` are the teacher's rationales by example id, for a run that does not have them beside its own.

    ROUGE-1 and ROUGE-L are mean F1 by rouge-score, stemmed; BLEU is the corpus's by sacrebleu.
    """
    ids = [name for name in run.rationales if name in run.answers]
    ids = ids[:: -(-len(ids) // MOST_ROWS)] if ids else []
    if not ids:
        return None
    pairs = {
        name: (own, beside or teachers.get(name, ""))
        for name in ids
        for own, beside in [run.rationales[name]]
    }
    taught = {name: pair for name, pair in pairs.items() if pair[1]}
    rouge_1, rouge_l, bleu = _overlap(taught) if taught else (None, None, None)
    predicted = [supports(pairs[name][0], run.answers[name].prediction) for name in ids]
    gold = [supports(taught[name][1], run.answers[name].target) for name in taught]
    return RationaleQuality(
        num_rows=len(ids),
        rouge_1=rouge_1,
        rouge_l=rouge_l,
        bleu=bleu,
        supports=100.0 * sum(predicted) / len(ids),
        teacher_supports=100.0 * sum(gold) / len(gold) if gold else None,
        mean_words=sum(len(pair[0].split()) for pair in pairs.values()) / len(ids),
    )


def _overlap(pairs: Mapping[str, tuple[str, str]]) -> tuple[float, float, float]:
    import sacrebleu  # here, as nltk alone takes a second
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    scores = [scorer.score(teachers, students) for students, teachers in pairs.values()]
    means = [100.0 * sum(each[kind].fmeasure for each in scores) / len(scores) for kind in ("rouge1", "rougeL")]  # fmt: skip
    students, teachers = zip(*pairs.values(), strict=True)
    return means[0], means[1], sacrebleu.corpus_bleu(list(students), [list(teachers)]).score


def supports(rationale: str, label: str) -> bool:
    """Whether the last sentence of a rationale has the label: its last number the label's value, or the label's words.

        'He has 3 and buys 2. So he has 5.', '( 3 + 2 )' -> True      'Dogs are animals.', 'contradiction' -> False

    A rough measure: a rationale may support a label in other words. So the teacher's own share stands beside it.
    """
    sentences = [each for each in _SENTENCE_END.split(rationale.strip()) if each]
    if not sentences or not label.strip():
        return False
    last = sentences[-1]
    if (value := equations.evaluate(label)) is not None:
        numbers = _NUMBER.findall(last)
        return bool(numbers) and equations.values_match(equations.evaluate(numbers[-1]), value)
    return re.search(rf"(?<!\w){re.escape(label.strip())}(?!\w)", last, re.IGNORECASE) is not None
