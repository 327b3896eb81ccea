"""A server that fails in every way at once: nothing is lost, nothing wrong is in the records, each kind is counted."""

import json
import re
from collections import Counter
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from bench.mock_llm_server import MockServer, Reply, plums
from stepdistill_jax import datasets
from stepdistill_jax.datasets import record_io, registry
from stepdistill_jax.teacher import JobSettings, ModelSettings, teach
from stepdistill_jax.teacher.asking.job_settings import Shard
from stepdistill_jax.teacher.backends import openai_teacher

KINDS = 20
ROWS = 2 * KINDS

# n modulo 20 -> what happens at the first tries, before the right answer.
AT_FIRST = {
    0: [Reply(status=429, headers={"Retry-After": "0"})],
    1: [Reply(status=429)],
    2: [Reply(status=500), Reply(status=502)],
    3: [Reply(reset=True)],
    4: [Reply("cut", cut=20)],
    5: [Reply("late", latency_seconds=3.0)],
    6: [Reply(raw=b"")],
    7: [Reply(raw=b'{"choices": [')],
    8: [Reply(raw=b'{"choices": [{"message": {"content": "\xff\xfe"}}]}')],
    9: [Reply(raw=b'{"detail": "of another shape"}')],
    10: [Reply(raw=b'{"error": {"message": "out of memory"}}')],
    11: [
        Reply(
            status=429,
            headers={"Retry-After": format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)},
        )
    ],
}
RETRIED = {
    "rate limited": 6,
    "HTTP 500": 2 + 4,
    "HTTP 502": 2,
    "connection broken": 4,
    "timeout": 2,
    "malformed answer": 8,
    "server error in answer": 2,
}


def _number(prompt):
    return int(re.findall(r"has (\d+)", prompt)[-1])


def _fail(prompt, attempt, body):
    right = plums(prompt, attempt, body)
    kind = _number(prompt) % KINDS
    at_first = AT_FIRST.get(kind, [])
    if attempt < len(at_first):
        return at_first[attempt]
    return {
        12: Reply(""),
        13: Reply("Mia had", finish_reason="length"),
        14: Reply(f"{right.text} Or rather, the other. {right.text}"),
        15: Reply(status=400, raw=b'{"error": {"message": "maximum context length"}}'),
        16: Reply("x" * 1_100_000),
        17: Reply(status=500),
        18: Reply("x" * 100_000 + " " + right.text),
        19: Reply(raw=('{"choices": [{"message": {"content": "\\ud800 ' + right.text + '"}}]}').encode()),
    }.get(kind, right)


@pytest.fixture
def orchard(tmp_path, monkeypatch):
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


def _teach(data, server, **settings):
    job = {"max_failed": 0.5, "max_tries": 3, "rows": {"train": ROWS}, **settings}
    return teach(
        "grove",
        teacher="openai:mock",
        data_dir=data,
        model_settings=ModelSettings(base_url=server.url, timeout_seconds=1.0),
        job_settings=JobSettings(**job),
    )


@pytest.mark.parametrize("transport", ["aiohttp, if installed", "the client's own"])
def test_every_failure_is_mended_or_counted_and_no_record_is_wrong(orchard, monkeypatch, transport):
    if transport == "the client's own":
        monkeypatch.setattr(openai_teacher, "_http_client", lambda openai, settings: None)
    with MockServer(_fail) as server:
        manifest = _teach(orchard, server)
    requests = manifest["requests"]
    # A 500 for good, at its last try: whether the server fails for everyone is asked where nobody had a reply in between.
    unsure = requests["retried"].pop("server away", 0)
    witnesses = requests["asked"] - ROWS - sum(RETRIED.values())
    assert 0 <= witnesses <= unsure <= 2
    assert requests["asked"] == server.asked.total()
    assert requests["retried"] == RETRIED
    assert requests["failed"] == {"HTTP 400": 2, "HTTP 500": 2, "answer too long": 2}
    assert manifest["skipped"]["train"] == requests["failed"]
    assert requests["answered"] == ROWS - 6
    assert manifest["unparsed"]["train"] == {
        "cut at max_tokens": 2,
        "empty answer": 2,
        "two answer markers": 2,
    }
    assert manifest["finish_reasons"]["train"]["length"] == 2

    records = list(record_io.read_records(orchard / "grove" / "rationales" / "openai-mock", "train"))
    assert [r["example_id"] for r in records] == [
        f"grove/train/{n}" for n in range(ROWS) if n % KINDS not in (15, 16, 17)
    ]
    for record in records:
        number = record["source_row"]
        if number % KINDS in (12, 13, 14):
            assert (record["teacher_label"], record["unparsed_reason"] != "") == ("", True)
        else:
            assert (record["teacher_label"], record["unparsed_reason"]) == (f"({number} + 2)", "")


def _asked(server):
    """How often each number was asked for."""
    asked = Counter()
    for body, times in server.asked.items():
        asked[_number(json.loads(body)["messages"][-1]["content"])] += times
    return asked


def _assert_only_500s_were_asked(asked):
    """Three tries each, as they were not refused; and one that has an answer, to see whether the server fails for everyone."""
    assert {n: times for n, times in asked.items() if n % KINDS == 17} == {17: 3, 37: 3}
    assert 1 <= sum(times for n, times in asked.items() if n % KINDS != 17) <= 2


def test_what_was_refused_is_asked_again_only_by_name(orchard):
    with MockServer(_fail) as server:
        _teach(orchard, server)
        first = _asked(server)
        _teach(orchard, server)
        second = _asked(server) - first
        _assert_only_500s_were_asked(second)
        server.behaviour = plums
        manifest = _teach(orchard, server, retry_failed=True)
        assert _asked(server) - first - second == dict.fromkeys((15, 35, 16, 36, 17, 37), 1)
    assert manifest["requests"]["failed"] == {}
    assert manifest["counts"] == {"train": ROWS}


def test_a_wrong_key_stops_the_job_at_once(orchard):
    with MockServer(lambda *_: Reply(status=401, raw=b'{"error": {"message": "wrong key"}}')) as server:
        with pytest.raises(ValueError, match=r"openai-mock: HTTP 401: wrong key .*No request can succeed"):
            _teach(orchard, server)
        assert server.asked.total() <= 16


def test_too_many_failures_end_the_job_without_records_and_keep_the_answers(orchard):
    with MockServer(_fail) as server:
        with pytest.raises(ValueError, match=r"6 of 40 examples failed .*more than --max_failed 0\.1 allows"):
            _teach(orchard, server, max_failed=0.1)
        assert not (orchard / "grove" / "rationales").exists()
        first = _asked(server)
        _teach(orchard, server, max_failed=0.2)
        _assert_only_500s_were_asked(_asked(server) - first)


def test_a_dry_run_asks_nothing_and_says_what_it_would(orchard, capsys):
    with MockServer() as server:
        assert _teach(orchard, server, dry_run=True) == {}
        assert server.asked.total() == 0
    printed = capsys.readouterr().out
    assert "Mia has 0 plums" in printed
    assert "40 requests to ask" in printed
    assert not (orchard / "grove" / "answers").exists()


def test_what_a_job_without_shards_was_told_counts_for_a_shard_that_failed(orchard, capsys):
    shard = Shard(0, 1)
    with MockServer(_fail) as server:
        _teach(orchard, server, shard=shard)
        assert "40 examples done, 6 of them failed" in capsys.readouterr().out
        server.behaviour = plums
        _teach(orchard, server)
        asked = server.asked.total()
        _teach(orchard, server, shard=shard, dry_run=True)
        _teach(orchard, server, shard=Shard(0, 2), dry_run=True)
        printed = capsys.readouterr().out
        assert printed.count("Nothing to ask") == printed.count("--- prompt of grove/") == 2
        _teach(orchard, server, shard=shard)
        assert server.asked.total() == asked
    assert "40 examples done, 0 of them failed" in capsys.readouterr().out
