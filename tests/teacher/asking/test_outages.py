"""A server that is not there, goes away, fails for everyone, or is taken down by one prompt: no example counts as failed."""

import re
import threading
import time

import pytest

from bench.mock_llm_server import MockServer, Reply, plums
from stepdistill_jax import cli, datasets
from stepdistill_jax.datasets import record_io, registry
from stepdistill_jax.teacher import JobSettings, ModelSettings, ServerGone, teach
from stepdistill_jax.teacher.asking import outages, pacing
from stepdistill_jax.teacher.backends import openai_teacher

ROWS = 60
LATENCY_SECONDS = 0.02


@pytest.fixture(autouse=True)
def no_key_and_little_patience(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(outages, "_FIRST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(outages, "_LONGEST_WAIT_SECONDS", 0.4)
    monkeypatch.setattr(pacing, "_SHOWN_SECONDS", 0.5)


@pytest.fixture
def data(tmp_path, monkeypatch):
    dataset = datasets.Dataset(
        name="grove",
        to_example=lambda row: datasets.Fields(
            f"Mia has {row['n']} plums and gets 2 more.", f"({row['n']} + 2)"
        ),
        rows=lambda split: [{"n": n} for n in (range(ROWS) if split == "train" else [100])],
        metric="equation",
        completion=datasets.CompletionFormat("The answer is", "Q:", r"(\(.*\))"),
    )
    monkeypatch.setitem(registry._DATASETS, "grove", dataset)
    datasets.prepare("grove", data_dir=tmp_path)
    return tmp_path


def _teach(data, url, *, timeout_seconds=5.0, **settings):
    job = {
        "concurrency": 8,
        "rows": {"train": ROWS},
        "max_outage_seconds": 30.0,
        "stop_seconds": 1.0,
        **settings,
    }
    return teach(
        "grove",
        teacher="openai:mock",
        data_dir=data,
        model_settings=ModelSettings(base_url=url, timeout_seconds=timeout_seconds),
        job_settings=JobSettings(**job),
    )


def _slow(prompt, attempt, body):
    return Reply(plums(prompt, attempt, body).text, latency_seconds=LATENCY_SECONDS)


def _number(prompt):
    return int(re.findall(r"has (\d+)", prompt)[-1])


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1"])
def test_a_server_that_is_not_there_is_named_before_anything_is_counted(data, url, capsys):
    started = time.monotonic()
    arguments = ["teach", "grove", "--teacher", "openai:mock", "--base_url", url, "--data_dir", str(data)]
    assert cli.main(arguments) == 69
    assert time.monotonic() - started < 60  # of which a busy machine needs most for its imports
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stepdistill: ")]
    assert f"no server: {url} can't be reached" in line
    assert "Nothing was asked; start the server, or mend --base_url." in line


@pytest.fixture(params=["can be reached without a question", "can be asked only"])
def reach(request, monkeypatch):
    if request.param == "can be asked only":
        monkeypatch.delattr(openai_teacher.OpenAITeacher, "reach")


@pytest.mark.usefixtures("reach")
def test_a_server_that_dies_and_comes_back_costs_what_was_under_way(data, capsys):
    with MockServer(_slow) as server:

        def kill():
            for answered in (10, 30, 50):
                while server.answered.total() < answered:
                    time.sleep(0.001)
                server.kill(back_after_seconds=0.4)

        threading.Thread(target=kill, daemon=True).start()
        manifest = _teach(data, server.url)
        assert server.kills == 3
        assert len(server.answered) == ROWS
        assert server.asked.total() <= ROWS + 3 * 8
    assert manifest["requests"]["failed"] == {}
    assert manifest["counts"] == {"train": ROWS}
    said = capsys.readouterr().err
    assert f"no server at {server.url} since" in said
    assert "next try in" in said


def test_an_outage_that_is_too_long_ends_the_job_and_keeps_the_answers(data, capsys):
    with MockServer(_slow) as server:

        def behaviour(prompt, attempt, body):
            if server.answered.total() >= 20:
                server.kill()
            return _slow(prompt, attempt, body)

        server.behaviour = behaviour
        with pytest.raises(
            ServerGone, match=r"no server at http.* since .*longer than --max_outage 1 s allows"
        ) as gone:
            _teach(data, server.url, max_outage_seconds=1.0)
        assert gone.value.exit_status == 69
        answered = server.answered.total()
        server.behaviour = plums
        server.revive()
        assert _teach(data, server.url)["requests"]["failed"] == {}
        assert server.answered.total() <= ROWS + 1  # one may have been sent as the connection broke
        assert answered >= 20


@pytest.mark.parametrize("concurrency", [1, 8, 32])
def test_a_server_that_fails_for_everyone_is_an_outage(data, concurrency):
    """It is broken until a question that it has answered was asked again in vain: by that the job tells an outage."""
    broken_at, answered, asked_again = [], set(), []

    def behaviour(prompt, attempt, body):
        if len(answered) >= 20 and not broken_at:
            broken_at.append(time.monotonic())
        if broken_at and (not asked_again or time.monotonic() < broken_at[0] + 1.5):
            if prompt in answered:
                asked_again.append(prompt)
            return Reply(status=503)
        answered.add(prompt)
        return _slow(prompt, attempt, body)

    with MockServer(behaviour) as server:
        manifest = _teach(data, server.url, concurrency=concurrency, max_tries=4)
    assert manifest["requests"]["failed"] == {}
    assert manifest["counts"] == {"train": ROWS}


def test_a_question_that_had_failed_before_an_outage_is_not_given_up_for_it(data):
    """Its tries are at an end before others have noticed that the server fails for everyone."""
    answered, asked_again, broken = set(), [], []

    def behaviour(prompt, attempt, body):
        is_unlucky = _number(prompt) == 10
        if is_unlucky and attempt == 0:
            return Reply(status=503)  # and others are answered in the meantime
        if is_unlucky:
            broken.append(prompt)
        if broken and not asked_again:
            if prompt in answered:
                asked_again.append(prompt)
            return Reply(status=503, latency_seconds=0.0 if is_unlucky else 2.0)
        answered.add(prompt)
        return _slow(prompt, attempt, body)

    with MockServer(behaviour) as server:
        manifest = _teach(data, server.url, concurrency=16, max_tries=4)
    assert asked_again
    assert manifest["requests"]["failed"] == {}
    assert manifest["counts"] == {"train": ROWS}


def test_a_server_that_fails_for_everyone_too_long_ends_the_job(data):
    with MockServer(lambda *_: Reply(status=500)) as server:
        with pytest.raises(ServerGone, match=r"fails for everyone since .*HTTP 500"):
            _teach(data, server.url, max_outage_seconds=1.0)
        assert server.asked.total() < 100


def test_bad_prompts_alone_are_no_outage(data):
    """More of them than make an outage, with nothing else left to ask."""
    bad = set(range(ROWS - 12, ROWS))

    def behaviour(prompt, attempt, body):
        return Reply(status=500) if _number(prompt) in bad else plums(prompt, attempt, body)

    with MockServer(behaviour) as server:
        for _ in range(2):  # the second time nothing is answered in this run
            manifest = _teach(data, server.url, concurrency=16, max_tries=2, max_failed=0.5)
            assert manifest["requests"]["failed"] == {"HTTP 500": 12}


@pytest.mark.parametrize("deadly", [0, 25, ROWS - 1])
def test_a_prompt_that_takes_its_server_down_is_set_aside(data, deadly):
    def behaviour(prompt, attempt, body):
        if _number(prompt) == deadly:
            server.kill(back_after_seconds=0.15)
        return _slow(prompt, attempt, body)

    with MockServer(behaviour) as server:
        manifest = _teach(data, server.url)
        assert server.kills == 3
        asked = server.asked.total()
        assert _teach(data, server.url)["requests"]["failed"] == {"takes its server down": 1}
        assert server.asked.total() == asked
    assert manifest["requests"]["failed"] == {"takes its server down": 1}
    assert manifest["counts"] == {"train": ROWS - 1}
    assert asked <= ROWS + 2 + 3 * 8


@pytest.mark.usefixtures("reach")
def test_two_deadly_prompts_are_both_found(data):
    def behaviour(prompt, attempt, body):
        if _number(prompt) in (3, 5):
            server.kill(back_after_seconds=0.15)
        return _slow(prompt, attempt, body)

    with MockServer(behaviour) as server:
        manifest = _teach(data, server.url)
    assert manifest["requests"]["failed"] == {"takes its server down": 2}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=402, raw=b'{"error": {"message": "add credits"}}'), "quota used up: add credits"),
        (
            Reply(status=429, raw=b'{"error": {"message": "Exceeded", "code": "insufficient_quota"}}'),
            "quota used up: Exceeded",
        ),
    ],
)
def test_a_used_up_quota_stops_the_job_at_once(data, reply, words):
    with MockServer(lambda p, a, b: plums(p, a, b) if _number(p) < 20 else reply) as server:
        with pytest.raises(ValueError, match=f"{words} .*No request can succeed until"):
            _teach(data, server.url)
        assert server.asked.total() <= 20 + 8
        assert set(server.asked.values()) == {1}
        server.behaviour = plums
        _teach(data, server.url)
        assert server.answered.total() == ROWS


def test_a_wait_of_a_day_ends_the_job_and_says_who_asked_for_it(data):
    busy = Reply(status=429, headers={"Retry-After": "86400"})
    with (
        MockServer(lambda *_: busy) as server,
        pytest.raises(
            ServerGone, match=r"openai-mock: the server asks to wait until .*Retry-After: 86,400 s\)"
        ),
    ):
        _teach(data, server.url)


def test_a_wait_that_is_allowed_is_shown(data, capsys):
    with MockServer(
        lambda p, a, b: Reply(status=429, headers={"Retry-After": "1"}) if a == 0 else plums(p, a, b)
    ) as server:
        _teach(data, server.url, rows={"train": 1})
    assert re.search(r"waits until 2.*: openai-mock said so \(Retry-After: 1 s\)", capsys.readouterr().err)


def test_a_redirect_to_another_server_names_both_and_is_not_followed(data):
    with MockServer() as elsewhere, MockServer() as server:
        to = elsewhere.url + "/chat/completions"
        server.behaviour = lambda *_: Reply(raw=b"", status=307, headers={"Location": to})
        with pytest.raises(ValueError, match="sends requests on to") as caught:
            _teach(data, server.url)
        assert elsewhere.asked.total() == 0
        for one in (server, elsewhere):
            assert one.url.removesuffix("/v1") in str(caught.value)


def test_a_redirect_on_the_same_server_is_followed(data):
    def behaviour(prompt, attempt, body):
        return (
            Reply(raw=b"", status=307, headers={"Location": "/v1/other"})
            if attempt == 0
            else plums(prompt, attempt, body)
        )

    with MockServer(behaviour) as server:
        assert _teach(data, server.url, rows={"train": 3})["counts"] == {"train": 3}


def test_answers_that_hold_a_placeholder_key_come_back_whole(data, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with MockServer(lambda *_: Reply("An EMPTY box, not empty. The answer is (1).")) as server:
        manifest = _teach(data, server.url, rows={"train": 3})
    [record, *_] = record_io.read_records(data / "grove" / "rationales" / "openai-mock", "train")
    assert record["rationale"] == "An EMPTY box, not empty."
    assert manifest["requests"]["altered"] == 0


def test_answers_that_hold_a_real_key_are_altered_and_counted(data, monkeypatch):
    key = "sk-0123456789abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", key)

    def behaviour(prompt, attempt, body):
        return Reply(f"{key if _number(prompt) == 1 else 'No key'}. The answer is (1).")

    with MockServer(behaviour) as server:
        manifest = _teach(data, server.url, rows={"train": 3})
    assert manifest["requests"]["altered"] == 1
    written = [path for path in data.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not any(key.encode() in path.read_bytes() for path in written)
