"""The first answers of a job, shown with what they cost before the rest is asked."""

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.teacher.answers.language_model import Prompting, Verdict
from stepdistill_jax.teacher.answers.mends import MENDS
from stepdistill_jax.teacher.answers.records import NothingParsed
from stepdistill_jax.teacher.asking.meter import Meter
from stepdistill_jax.teacher.asking.pending import Pending

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Dataset, Example

_WIDTH = 110  # characters of a line
_LONGEST_LABEL = 24
_POLL_SECONDS = 0.1


def parted(chunks: Iterable[list[Pending]], number: int) -> tuple[list[Pending], Iterator[list[Pending]]]:
    """The first so many examples, and the rest; none first where no more follow."""
    chunks = iter(chunks)
    head: list[Pending] = []
    while len(head) <= number and (chunk := next(chunks, None)) is not None:
        head += chunk
    if len(head) <= number:
        return [], iter([head])
    return head[:number], itertools.chain([head[number:]], chunks)


def show(asked: Sequence[Pending], prompting: Prompting, dataset: "Dataset", meter: Meter) -> None:
    """Prints a line for each answer, how many could be read and are right, and what all examples will cost.

    Args:
      asked: have their replies.
      prompting: has read nothing yet.

    Raises:
      NothingParsed: if not one answer could be read.
      ValueError: if there is not one answer.
    """
    verdicts = [prompting.read(pending.example, pending.replies) for pending in asked]
    print(visible_line(f"--- the first {len(asked):,} of {meter.total:,} examples ---"))
    for pending, verdict in zip(asked, verdicts, strict=True):
        print(_answer_line(pending.example, verdict, dataset))
    answered = sum(verdict.answer is not None for verdict in verdicts)
    reasons = Counter(v.parsed.unparsed_reason for v in verdicts if v.answer and v.parsed.unparsed_reason)
    if not answered:
        raise ValueError(
            f"none of the first {len(asked)} examples got an answer ({meter.last_failure}), so the rest was not asked; mend the "
            f"cause and start again, with --retry_failed for what was refused."
        )
    if reasons.total() == answered:
        raise NothingParsed(_nothing_read(reasons))
    print(visible_line(_counts(asked, verdicts, reasons, dataset)))
    print(visible_line(_costs(len(asked), meter)))


async def goes_on(is_stopping: Callable[[], bool]) -> bool:
    """Asks on the terminal whether to go on; no answer, and a job that is being stopped meanwhile, is no."""
    print("Ask the rest? [y/N] ", end="", file=sys.stderr, flush=True)
    loop = asyncio.get_running_loop()
    said: asyncio.Future[str] = loop.create_future()
    loop.add_reader(sys.stdin, lambda: said.done() or said.set_result(sys.stdin.readline()))
    try:
        while not said.done() and not is_stopping():
            await asyncio.wait([said], timeout=_POLL_SECONDS)
    finally:
        loop.remove_reader(sys.stdin)
    return said.done() and said.result().strip().lower() in ("y", "yes")


def _answer_line(example: "Example", verdict: Verdict, dataset: "Dataset") -> str:
    parsed = verdict.parsed
    if verdict.answer is None:
        label, text = "(failed)", ""
    elif parsed.unparsed_reason:
        label, text = f"({parsed.unparsed_reason})", verdict.answer.text
    else:
        label, text = _with_gold(example, verdict, dataset), parsed.rationale
    line = (
        f"{visible_line(example.example_id)}  {visible_line(label):<{_LONGEST_LABEL}}  {visible_line(text)}"
    )
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _with_gold(example: "Example", verdict: Verdict, dataset: "Dataset") -> str:
    if example.label is None or _is_right(example, verdict, dataset):
        return verdict.parsed.label
    return f"{verdict.parsed.label} (gold: {example.label})"


def _is_right(example: "Example", verdict: Verdict, dataset: "Dataset") -> bool:
    from stepdistill_jax.datasets import labels_match

    return labels_match(dataset, verdict.parsed.label, example.label or "")


def _counts(
    asked: Sequence[Pending], verdicts: Sequence[Verdict], reasons: Counter[str], dataset: "Dataset"
) -> str:
    read = [
        (pending.example, verdict)
        for pending, verdict in zip(asked, verdicts, strict=True)
        if verdict.answer is not None and not verdict.parsed.unparsed_reason
    ]
    gold = [(example, verdict) for example, verdict in read if example.label is not None]
    right = sum(_is_right(example, verdict, dataset) for example, verdict in gold)
    unread = "".join(f"; {number} x {reason}" for reason, number in reasons.most_common())
    failed = sum(verdict.answer is None for verdict in verdicts)
    return (
        f"--- {len(read)} of {len(asked)} could be read{unread}{f'; {failed} failed' * bool(failed)}"
        + (f"; {right} of {len(gold)} are the gold label" if gold else "")
        + " ---"
    )


def _costs(number: int, meter: Meter) -> str:
    """Tokens so far, and of all examples if the rest is as these."""
    if not meter.prompt_tokens + meter.completion_tokens:
        return "the server does not say how many tokens that took"
    times = meter.total / number
    line = (
        f"{meter.prompt_tokens:,} tokens of prompts and {meter.completion_tokens:,} of answers; all {meter.total:,} examples: "
        f"about {meter.prompt_tokens * times:,.0f} and {meter.completion_tokens * times:,.0f}"
    )
    if meter.prices is None:
        return f"{line} (--prices, or --price_prompt and --price_completion, tell the cost)"
    return f"{line}, about ${meter.prices.cost(meter.prompt_tokens, meter.completion_tokens) * times:,.2f}"


def _nothing_read(reasons: Counter[str]) -> str:
    kinds = ", ".join(f"{number} x {reason}" for reason, number in reasons.most_common())
    commonest = reasons.most_common(1)[0][0]
    mend = MENDS.get(commonest, "see whether the --prompt asks for what the dataset's answer marker expects")
    return (
        f"none of the first {reasons.total()} answers could be read ({kinds}), so the rest was not asked. Mend: {mend}. The "
        f"answers are kept; --first 0 asks all the same."
    )
