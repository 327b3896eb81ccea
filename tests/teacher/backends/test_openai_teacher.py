"""The `openai:` teacher: settings checked before anything is asked, bodies, waits, and what stays secret."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from bench.mock_llm_server import MockServer, Reply
from stepdistill_jax.teacher import Message, ModelSettings, Request, RequestError, Sampling
from stepdistill_jax.teacher.asking.answer_store import AnswerStore, Batch
from stepdistill_jax.teacher.backends.openai_bodies import request_body
from stepdistill_jax.teacher.backends.openai_teacher import make, retry_after_seconds
from stepdistill_jax.teacher.backends.secrets import Redactor, public_url, secrets_of_url


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("", {}, "names no model"),
        ("m", {}, r"No key for https://api.openai.com/v1: set \$OPENAI_API_KEY"),
        ("m", {"base_url": "localhost:8000"}, "not a URL such as"),
        ("m", {"base_url": "http://x/v1", "api": "edits"}, "use chat or completions"),
        ("m", {"base_url": "http://x/v1", "options": {"heat": 3}}, "--teacher_option heat"),
        ("m", {"base_url": "http://x/v1", "options": {"temperature": 1}}, "a value is set by --temperature"),
        ("m", {"base_url": "http://x/v1", "options": {"extra_body": 1}}, "give a JSON object"),
        ("m", {"base_url": "http://x/v1", "options": {"response_format": "xml"}}, "use json or json_schema"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_first_request(model, settings, words):
    with pytest.raises(ValueError, match=words):
        make(model, ModelSettings(**settings))


def test_the_folder_is_named_after_the_model():
    assert make("org/model:7b", ModelSettings(base_url="http://x/v1")).name == "openai-org-model-7b"


def test_chats_and_texts_go_where_they_belong():
    sampling = Sampling(0.5, 9, 0.9, ("Q:",), 3, '{"min_p": 0.1}')
    path, body = request_body(Request("e", "m", (Message("user", "hi"),), sampling))
    assert path == "/chat/completions"
    assert body == {
        **{"model": "m", "temperature": 0.5, "max_tokens": 9, "top_p": 0.9, "stop": ["Q:"], "seed": 3},
        **{"min_p": 0.1, "messages": [{"role": "user", "content": "hi"}]},
    }
    path, body = request_body(Request("e", "m", "hi"), "max_completion_tokens")
    assert path == "/completions"
    assert body == {"model": "m", "temperature": 0.0, "max_completion_tokens": 256, "prompt": "hi"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "inf"}, 366 * 86400.0),
        ({"retry-after": "1e300"}, 366 * 86400.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 366 * 86400.0),
        ({"retry-after": "Tue, 24 Nov 99999999999 12:01:30 GMT"}, None),
        ({"retry-after": "Tue, 24 Nov 2026 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(headers, seconds):
    assert retry_after_seconds(headers, now=datetime(2026, 11, 24, 12, 0, tzinfo=UTC)) == seconds


def test_urls_are_shown_without_what_is_secret_in_them():
    url = "https://user:p%40ss@host:8000/v1?api-key=abc123#x"
    assert public_url(url) == "https://host:8000/v1"
    shown = Redactor(secrets_of_url(url))("p@ss p%40ss abc123 dXNlcjpwQHNz fine")
    assert shown == "[hidden] [hidden] [hidden] [hidden] fine"
    assert Redactor(['a"b\\c'])(json.dumps({"said": 'a"b\\c'})) == '{"said": "[hidden]"}'


@pytest.mark.parametrize(
    ("query", "secrets"),
    [
        ("api-version=2024-06-01&deployment=plums", []),
        ("api-key=one&key=two&accessToken=three&X-Amz-Signature=four", ["one", "two", "three", "four"]),
        ("sig=a%2Bb&design=c&monkey=d&client_secret=e&code=f", ["a%2Bb", "e", "f", "a+b"]),
    ],
)
def test_values_of_a_query_are_secret_where_their_names_say_so(query, secrets):
    assert sorted(set(secrets_of_url(f"https://host/v1?{query}"))) == sorted(secrets)


@pytest.mark.parametrize(
    "key", ["EMPTY", "none", "ollama", "x", "hunter2", "sk-no-key-required", "token-abc123"]
)
def test_a_short_key_or_a_placeholder_changes_no_answer(key):
    answer = f"x {key} is none of the EMPTY boxes, {key}."
    assert Redactor([key]).in_answer(answer) == (answer, 0)


def test_a_real_key_is_hidden_wherever_it_is_and_a_short_one_in_a_servers_words():
    redact = Redactor(["sk-proj-0123456789abcdef", "hunter2", "EMPTY", "abc"])
    assert redact.in_answer("(sk-proj-0123456789abcdef1) hunter2") == ("([hidden]1) hunter2", 1)
    assert (
        redact("hunter2! hunter22 EMPTY abc 'sk-proj-0123456789abcdef'")
        == "[hidden]! hunter22 EMPTY abc '[hidden]'"
    )


REQUEST = Request("e", "m", (Message("user", "hi"),))


def _ask(teacher):
    async def ask():
        async with teacher:
            return await teacher.answer(REQUEST if teacher.chat else Request("e", "m", "hi"))

    return asyncio.run(ask())


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_an_answer_has_text_reason_tokens_and_model(api):
    with MockServer(lambda *_: Reply("So it is.", finish_reason="length")) as server:
        answer = _ask(make("m", ModelSettings(base_url=server.url, api=api)))
    assert (answer.text, answer.finish_reason, answer.model) == ("So it is.", "length", "m-0001")
    assert (answer.prompt_tokens, answer.completion_tokens) == (100, 20)


CHOICE = '"choices": [{"message": {"content": "yes"}}]'


@pytest.mark.parametrize(
    ("raw", "numbers"),
    [
        (f'{{{CHOICE}, "usage": {{"prompt_tokens": 1e999, "completion_tokens": null}}}}', (-1, -1)),
        (f'{{{CHOICE}, "usage": {{"prompt_tokens": {10**30}, "completion_tokens": 7}}}}', (-1, 7)),
        (f'{{{CHOICE}, "usage": null, "model": "\\ud800"}}', (-1, -1)),
        ('{"choices": [{"message": {"content": "yes"}, "finish_reason": "\\udfff sk-mine"}]}', (-1, -1)),
    ],
)
def test_whatever_stands_beside_an_answer_it_can_be_stored_and_holds_no_key(
    raw, numbers, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine\n")
    with MockServer(lambda *_: Reply(raw=raw.encode())) as server:
        answer = _ask(make("m", ModelSettings(base_url=server.url)))
        assert server.headers["authorization"] == "Bearer sk-mine"
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("yes", *numbers)
    assert "sk-mine" not in repr(answer)
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        store.commit(Batch(answers=[(REQUEST, answer)]))
        assert store.replies([REQUEST.key]) == {REQUEST.key: answer}


@pytest.mark.parametrize("raw", ["[" * 100_000, f'{{"n": {"1" * 10_000}}}', '{"detail": "\\ud800"}', "7"])
def test_a_body_that_is_no_answer_is_worth_another_try(raw):
    with MockServer(lambda *_: Reply(raw=raw.encode())) as server, pytest.raises(RequestError) as caught:
        _ask(make("m", ModelSettings(base_url=server.url)))
    assert (caught.value.kind, caught.value.mend) == ("malformed answer", "retry")
    caught.value.detail.encode()


def test_a_key_that_is_none_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u2026mine")
    with pytest.raises(ValueError, match=r"\$OPENAI_API_KEY holds no key: .* ASCII\.$"):
        make("m", ModelSettings(base_url="http://x/v1"))


def _message(**fields):
    return json.dumps({"choices": [{"message": fields, "finish_reason": "stop"}]}).encode()


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content": "yes", "reasoning_content": "Hm."}, ("yes", "Hm.", "stop")),
        ({"content": None, "reasoning": "Hm."}, ("", "Hm.", "stop")),
        ({"content": "", "reasoning_content": "Hm.", "reasoning": "Hm."}, ("", "Hm.", "stop")),
        ({"reasoning_content": "Hm."}, ("", "Hm.", "stop")),
        ({"content": [{"type": "text", "text": "y"}, {"type": "text", "text": "es"}]}, ("yes", "", "stop")),
        ({"content": [THINKING, {"type": "text", "text": "yes"}]}, ("yes", "Hm. ", "stop")),
        ({"content": [{"type": "reasoning", "text": "Hm."}]}, ("", "Hm.", "stop")),
        ({"content": None, "refusal": "I can't."}, ("I can't.", "", "refusal")),
        ({"content": None}, ("", "", "stop")),
    ],
)
def test_text_and_thoughts_are_told_apart_in_every_form(fields, expected):
    with MockServer(lambda *_: Reply(raw=_message(**fields))) as server:
        answer = _ask(make("m", ModelSettings(base_url=server.url)))
    assert (answer.text, answer.thoughts, answer.finish_reason) == expected


@pytest.mark.parametrize("content", [7, {"text": "yes"}, ["yes"], [{"type": "image_url"}], [{"text": "yes"}]])
def test_content_of_another_shape_is_malformed(content):
    with (
        MockServer(lambda *_: Reply(raw=_message(content=content))) as server,
        pytest.raises(RequestError, match="malformed answer"),
    ):
        _ask(make("m", ModelSettings(base_url=server.url)))


def test_a_field_that_a_request_has_as_null_is_not_sent():
    extra = '{"temperature": null, "stop": null, "reasoning_effort": "low"}'
    _, body = request_body(Request("e", "m", "hi", Sampling(stop=("Q:",), extra=extra)))
    assert body == {"model": "m", "max_tokens": 256, "reasoning_effort": "low", "prompt": "hi"}


def test_options_say_which_fields_a_request_carries():
    options = {"temperature": "none", "reasoning_effort": "low", "extra_body": {"min_p": 0.1}}
    teacher = make("m", ModelSettings(base_url="http://x/v1", options={**options, "response_format": "json"}))
    assert teacher.extra == {"min_p": 0.1, "temperature": None, "reasoning_effort": "low"}
    assert teacher.response_format == "json"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("LENGTH", "length"),
        ("SAFETY", "content_filter"),
        ("content-filter", "content_filter"),
        ("eos_token", "eos_token"),
        ("STOP", "STOP"),
    ],
)
def test_other_servers_words_for_a_cut_or_withheld_answer_are_known(said, reason):
    raw = json.dumps({"choices": [{"message": {"content": "12"}, "finish_reason": said}]}).encode()
    with MockServer(lambda *_: Reply(raw=raw)) as server:
        assert _ask(make("m", ModelSettings(base_url=server.url))).finish_reason == reason


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "error"},
        {"finish_reason": "abort"},
        {"finish_reason": "insufficient_system_resource"},
        {"finish_reason": None, "error": {"message": "sk-mine-0123456789abc lost", "code": 502}},
    ],
)
def test_an_answer_that_the_server_broke_off_is_asked_again(choice, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine-0123456789abc")
    raw = json.dumps({"choices": [{"message": {"content": "The answer is 1"}, **choice}]}).encode()
    with MockServer(lambda *_: Reply(raw=raw)) as server, pytest.raises(RequestError) as caught:
        _ask(make("m", ModelSettings(base_url=server.url)))
    assert (caught.value.kind, caught.value.mend) == ("answer broken off by the server", "retry")
    assert "sk-mine" not in f"{caught.value!r} {caught.value} {caught.value.detail}"


def test_a_used_up_quota_stops_with_status_200_too():
    raw = b'{"error": {"message": "No money left.", "code": "insufficient_quota"}}'
    with MockServer(lambda *_: Reply(raw=raw)) as server, pytest.raises(RequestError) as caught:
        _ask(make("m", ModelSettings(base_url=server.url)))
    assert (caught.value.kind, caught.value.mend) == ("quota used up", "stop")
