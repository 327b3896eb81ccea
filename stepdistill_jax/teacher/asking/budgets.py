"""What is known of requests, an earlier run's smaller `max_tokens` included.

A request's key holds its `max_tokens`, so a larger budget makes another key. But an answer that ended by itself under the smaller one
would have been the same under the larger: it is taken. Only what was cut is asked again.
"""

from collections.abc import Sequence
from typing import Literal

from stepdistill_jax.teacher.answers.requests import Answer, Reply, Request
from stepdistill_jax.teacher.asking.answer_store import AnswerStore


def replies(
    store: AnswerStore, requests: Sequence[Request], *, failures: Literal["none", "final", "all"] = "all"
) -> dict[str, Reply]:
    """Key of a request -> what the store has; `failures` are those that count as known, see AnswerStore.replies."""
    found = store.replies([request.key for request in requests], failures=failures)
    for budget in sorted(store.budgets(), reverse=True):
        wanted = {
            request.with_max_tokens(budget).key: request.key
            for request in requests
            if budget < request.sampling.max_tokens and not isinstance(found.get(request.key), Answer)
        }
        earlier = store.replies(list(wanted), failures="none")
        found.update((wanted[key], reply) for key, reply in earlier.items() if _holds(reply))
    return found


def _holds(reply: Reply) -> bool:
    return isinstance(reply, Answer) and not reply.is_cut
