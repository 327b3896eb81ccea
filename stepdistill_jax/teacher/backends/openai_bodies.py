"""Bodies of OpenAI's API, as its own server and those that speak like it write and read them.

Reasoning comes in four ways: within the text (vLLM without a reasoning parser), in `reasoning_content` (vLLM with one, SGLang, llama.cpp)
or `reasoning` (later vLLM, OpenRouter), as a part of the content (Mistral), or not at all but in the count of tokens (OpenAI).
"""

import json
from typing import Any

from stepdistill_jax.teacher.answers.requests import CUT, FILTERED, REFUSAL, Answer, Request, RequestError

_THOUGHTS = ("reasoning_content", "reasoning")  # fields of a message
_TEXT_PARTS = ("text", "output_text")
_THOUGHT_PARTS = ("thinking", "reasoning")
# What other servers call OpenAI's 'length' and 'content_filter': Mistral, Gemini, Anthropic, TGI, Zhipu and the gateways to them.
_ENDINGS = {
    **dict.fromkeys(
        (
            "max_tokens",
            "max_length",
            "model_length",
            "max_output_tokens",
            "max_new_tokens",
            "token_limit",
            "context_length",
        ),
        CUT,
    ),
    **dict.fromkeys(
        ("safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive"), FILTERED
    ),
}
# The server gave up in the middle: what there is may be a part of an answer.
_BROKEN_OFF = frozenset(
    (
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "timeout",
        "network_error",
        "insufficient_system_resource",
    )
)
BROKEN_OFF = "answer broken off by the server"


def request_body(request: Request, max_tokens_field: str = "max_tokens") -> tuple[str, dict[str, Any]]:
    """Path and JSON body of a request; a field that the request's `extra` has as null is left out."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        "temperature": sampling.temperature,
        max_tokens_field: sampling.max_tokens,
    }
    # Left out where they say nothing: some servers refuse fields that they don't know.
    if sampling.top_p != 1.0:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.extra:
        body.update(json.loads(sampling.extra))
        body = {name: value for name, value in body.items() if value is not None}
    if isinstance(request.prompt, str):
        return "/completions", {**body, "prompt": request.prompt}
    messages = [{"role": message.role, "content": message.content} for message in request.prompt]
    return "/chat/completions", {**body, "messages": messages}


def read_answer(body: dict[str, Any]) -> Answer:
    """The answer in a parsed JSON body, as the server wrote it.

    Raises:
      RequestError: if the server says that it gave up in the middle.
      KeyError, IndexError, TypeError, ValueError, AttributeError: for a body of another shape.
    """
    choice = body["choices"][0]
    if _ending(choice) in _BROKEN_OFF or choice.get("error"):
        raise RequestError(BROKEN_OFF, json.dumps(choice.get("error") or _ending(choice)), mend="retry")
    message, name = (choice["message"], "content") if "message" in choice else (choice, "text")
    apart = next((said for field in _THOUGHTS if (said := message.get(field))), "")
    # Some servers leave the content out, rather than empty, where all there is is reasoning or a refusal.
    content = message.get(name) if apart or message.get("refusal") else message[name]
    text, thoughts = _read_content(content)
    finish_reason = _ending(choice)
    if refusal := message.get("refusal"):
        text, finish_reason = text or refusal, REFUSAL
    usage = body.get("usage") or {}
    return Answer(
        text=valid_text(text),
        finish_reason=valid_text(finish_reason),
        prompt_tokens=_number_of_tokens(usage.get("prompt_tokens")),
        completion_tokens=_number_of_tokens(usage.get("completion_tokens")),
        model=valid_text(str(body.get("model") or "")),
        thoughts=valid_text(thoughts or apart),
    )


def _ending(choice: dict[str, Any]) -> str:
    """The finish reason in OpenAI's words, where it is one of the known; else as the server says it."""
    said = str(choice.get("finish_reason") or "")
    plain = said.rpartition(".")[2].lower().replace("-", "_")
    known = {CUT, FILTERED, *_BROKEN_OFF}
    return plain if plain in known else _ENDINGS.get(plain, said)


def _read_content(content: str | list[Any] | None) -> tuple[str, str]:
    """(text, thoughts) of a message's content: a text, None, or a list of parts, each with its type."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise TypeError("content is neither text nor a list of parts")
    text, thoughts = [], []
    for part in content:
        if part["type"] in _TEXT_PARTS:
            text.append(part["text"])
        elif part["type"] in _THOUGHT_PARTS:
            said = part.get(part["type"]) or part.get("text")
            thoughts.append(said if isinstance(said, str) else _read_content(said)[0])
        else:
            raise ValueError(f"content has a part of type {part['type']!r:.40}")
    return "".join(text), "".join(thoughts)


def _number_of_tokens(said: object) -> int:
    """As the server says; -1 for what can be none."""
    return said if isinstance(said, int) and 0 <= said < 2**53 else -1


def valid_text(text: str) -> str:
    """The text with lone surrogates, which JSON can express and UTF-8 can't, as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
