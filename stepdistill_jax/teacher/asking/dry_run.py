"""What a job would ask, and what that would cost, before anything is asked."""

from collections.abc import Callable, Iterable

from stepdistill_jax.base.visible import visible
from stepdistill_jax.teacher.answers.language_model import LanguageModel
from stepdistill_jax.teacher.answers.requests import Request
from stepdistill_jax.teacher.asking.in_parallel import CHARACTERS_A_TOKEN
from stepdistill_jax.teacher.asking.job_settings import Prices
from stepdistill_jax.teacher.asking.pending import Pending


def describe(chunks: Iterable[list[Pending]], model: LanguageModel, *, prices: Prices | None) -> str:
    """The first missing prompt, or the first of all, whole; how many requests and tokens; the cost where prices are known."""
    first = answered = None  # requests
    num_requests = num_known = prompt_tokens = most_completion_tokens = 0
    count, how = _counter(model)
    for pending in (pending for chunk in chunks for pending in chunk):
        num_known += len(pending.replies)
        answered = answered or pending.requests[0]
        for request in pending.missing:
            first = first or request
            num_requests += 1
            prompt_tokens += count(request.prompt_text)
            most_completion_tokens += request.sampling.max_tokens
    if first is None and answered is None:
        return "Nothing to ask: there are no examples."
    lines = _shown(first or answered, model, count)
    if first is None:
        return visible("\n".join([*lines, f"Nothing to ask: all {num_known:,} requests are answered."]))
    lines += [
        f"{num_requests:,} requests to ask ({num_known:,} are answered), follow-ups to wrong answers not counted",
        f"prompt tokens      {prompt_tokens:,} ({how})",
        f"completion tokens  {most_completion_tokens:,} at most",
    ]
    if prices is None:
        lines.append("cost               give --prices FILE, or --price_prompt and --price_completion")
    else:
        lines.append(
            f"cost               ${prices.cost(prompt_tokens, 0):,.2f} for prompts, and at most "
            f"${prices.cost(0, most_completion_tokens):,.2f} for answers"
        )
    return visible("\n".join(lines))


def _shown(request: Request, model: LanguageModel, count: Callable[[str], int]) -> list[str]:
    """The whole prompt, and how it is asked."""
    sampling = request.sampling
    return [
        f"--- prompt of {request.example_id}, as {model.model} gets it ({count(request.prompt_text):,} tokens) ---",
        request.prompt_text,
        f"--- stop strings {list(sampling.stop)}, temperature {sampling.temperature:g}, "
        f"at most {sampling.max_tokens:,} tokens ---",
        *([f"--- fields besides (null is not sent): {sampling.extra} ---"] if sampling.extra else []),
    ]


def _counter(model: LanguageModel):
    """A function that counts a text's tokens, and how it does."""
    if hasattr(model, "count_tokens"):
        return model.count_tokens, "counted by the teacher's own vocabulary"
    return (
        lambda text: round(len(text) / CHARACTERS_A_TOKEN),
        f"estimated at {CHARACTERS_A_TOKEN:g} characters a token",
    )
