"""How four kinds of servers send a reasoning model's answer, spend its budget, and refuse parameters.

    python -m bench.mock_llm_forms llama.cpp        prints its URL, and serves until it is killed; from a clone's root

`MockServer(in_form(FORMS["vllm"], answers))` is such a server; `answers(number)` gives thoughts and text. A word counts as a token. From the
servers' own documentation: vLLM with and without `--reasoning-parser`, llama.cpp's llama-server, and OpenAI's reasoning models.
"""

import argparse
import dataclasses
import json
import re
import threading
from collections.abc import Callable
from typing import Any

from bench.mock_llm_server import Behaviour, MockServer, Reply


@dataclasses.dataclass(frozen=True)
class Said:
    """What a model says: its thoughts, its text, and why it stops where the budget doesn't end it."""

    thoughts: str = ""
    text: str = ""
    finish_reason: str = "stop"
    refusal: str = ""


@dataclasses.dataclass(frozen=True)
class Form:
    """A kind of server.

    Attributes:
      field: of a message that holds the thoughts; '' for none.
      in_text: whether the thoughts are in the content, in tags; opens_tag: whether the opening tag is, too (else it is in the prompt).
      nothing: the content of an answer without text.
      budget: the fields of a request that limit tokens; refused: fields that end in status 400.
    """

    field: str = ""
    in_text: bool = False
    opens_tag: bool = True
    nothing: str | None = None
    budget: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    refused: tuple[str, ...] = ()


FORMS = {
    "vllm": Form(in_text=True),
    "vllm, tag in the prompt": Form(in_text=True, opens_tag=False),
    "vllm with a reasoning parser": Form(field="reasoning_content"),
    "later vllm with a reasoning parser": Form(field="reasoning"),
    "llama.cpp": Form(field="reasoning_content", nothing=""),
    "hosted": Form(
        nothing="", budget=("max_completion_tokens",), refused=("max_tokens", "temperature", "top_p", "stop")
    ),
}
_EFFORTS = ("minimal", "low", "medium", "high")


def in_form(form: Form, answers: Callable[[int], Said]) -> Behaviour:
    """The behaviour of a server of this kind; questions hold 'has NUMBER'."""

    def behave(prompt: str, attempt: int, body: dict[str, Any]) -> Reply:
        if (refusal := _refusal(form, body)) is not None:
            return Reply(status=400, raw=json.dumps({"error": refusal}).encode())
        said = answers(int(re.findall(r"has (\d+)", prompt)[-1]))
        budget = next(body[name] for name in form.budget if name in body)
        return Reply(raw=json.dumps(_body(form, _spend(said, budget), body)).encode())

    return behave


def _refusal(form: Form, body: dict[str, Any]) -> dict[str, Any] | None:
    for name in form.refused:
        if name in body:
            mend = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            return {
                "message": f"Unsupported parameter: '{name}' is not supported with this model.{mend}",
                "type": "invalid_request_error",
                "param": name,
                "code": "unsupported_parameter",
            }
    if body.get("reasoning_effort", "low") not in _EFFORTS:
        return {"message": f"Invalid value: '{body['reasoning_effort']}'.", "param": "reasoning_effort"}
    if not any(name in body for name in form.budget):
        return {"message": f"Missing parameter: '{form.budget[0]}'.", "param": form.budget[0]}
    return None


def _spend(said: Said, budget: int) -> Said:
    """What fits the budget: thoughts come first."""
    thoughts, text = said.thoughts.split(), said.text.split()
    if len(thoughts) + len(text) <= budget:
        return said
    if len(thoughts) >= budget:
        return Said(" ".join(thoughts[:budget]), "", "length")
    return Said(said.thoughts, " ".join(text[: budget - len(thoughts)]), "length")


def _body(form: Form, said: Said, request: dict[str, Any]) -> dict[str, Any]:
    content: str | None = said.text or form.nothing
    if form.in_text and said.thoughts:
        opening = "<think>\n" if form.opens_tag else ""
        ended = f"\n</think>\n\n{said.text}" if said.text or said.finish_reason != "length" else ""
        content = f"{opening}{said.thoughts}{ended}"
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if form.field:
        message[form.field] = said.thoughts or None
    if said.refusal:
        message["refusal"] = said.refusal
    num_thoughts, num_words = len(said.thoughts.split()), len(said.text.split())
    return {
        "id": "mock",
        "object": "chat.completion",
        "created": 0,
        "model": f"{request['model']}-0001",
        "choices": [{"index": 0, "finish_reason": said.finish_reason, "message": message}],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": num_thoughts + num_words,
            "completion_tokens_details": {"reasoning_tokens": num_thoughts},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()

    def answers(number: int) -> Said:
        return Said(f"Is it {number}? No, 2 more.", f"Two more than {number}. The answer is ({number} + 2).")

    with MockServer(in_form(FORMS[args.form], answers), port=args.port) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
