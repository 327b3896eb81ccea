"""`stepdistill teach … --reparse`: stored answers are read again, and nothing is asked."""

import re
import shutil

import pytest

from bench.mock_llm_server import MockServer, Reply
from bench.mock_llm_server import plums as right
from stepdistill_jax.datasets import record_io
from stepdistill_jax.teacher import JobSettings, ModelSettings, PromptSettings, teach
from stepdistill_jax.teacher.answers import records
from stepdistill_jax.teacher.prompting.tolerant_parsing import parsed_completion


def behaviour(prompt, attempt, body):
    number = int(right(prompt, attempt, body).text.split()[2])
    said = {
        10: "Two more, twice. The answer is 2 * (10 + 2).",
        11: "Two more. The answer is 13½.",
        12: "Two more. The answer is [12 + 2].",
        13: "Two more. The answer is 13 +  2.",
        20: "No idea.",
    }
    return Reply(said.get(number, f"Two more. The answer is ({number} + 2)."))


@pytest.fixture
def server():
    with MockServer(behaviour) as running:
        yield running


def _teach(plums, server, **settings):
    return teach(
        "plums",
        teacher="openai:mock",
        data_dir=plums.data_dir,
        model_settings=ModelSettings(base_url=server.url),
        job_settings=JobSettings(**settings),
    )


def _labels(plums):
    folder = plums.rationales / "openai-mock"
    return [r["teacher_label"] for r in record_io.read_records(folder, "train")]


def _as_before(text, completion_format, form, **_):
    """Labels as the authors' pattern finds them, which is how an earlier version read them."""
    rationale, marker, rest = text.partition(completion_format.answer_marker)
    found = re.search(r"\(.*\)", rest) or re.search(r"\d+", rest)
    if not marker or not found:
        return parsed_completion("", "", "no answer marker")
    return parsed_completion(rationale.strip(), found[0], "")


def _with_records_of_an_earlier_version(plums, server, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("stepdistill_jax.teacher.prompting.answer_reading.parse_answer", _as_before)
        earlier.setattr(records, "FORMAT_VERSION", "3")
        _teach(plums, server)
    assert _labels(plums) == ["(10 + 2)", "13", "12", "13"]


def test_changed_labels_are_counted_by_kind_and_nothing_is_asked(plums, server, monkeypatch, capsys):
    _with_records_of_an_earlier_version(plums, server, monkeypatch)
    asked = server.asked.total()
    capsys.readouterr()
    manifest = _teach(plums, server, reparse=True)
    assert server.asked.total() == asked
    assert _labels(plums) == ["2 * (10 + 2)", "13 + 1 / 2", "(12 + 2)", "13 + 2"]
    assert manifest["reread"] == {"still unparsed": 1, "the same": 3, "with another meaning": 4}
    out = capsys.readouterr().out
    assert (
        "Read 8 answers again, asked nothing; labels: 4 with another meaning, 3 the same, 1 still unparsed"
        in out
    )
    assert "rationales: 0 changed" in out
    assert _teach(plums, server) == manifest  # up to date
    assert server.asked.total() == asked


def test_rationales_that_change_are_counted(plums, server, capsys):
    _teach(plums, server)
    folder = plums.rationales / "openai-mock"
    before = list(record_io.read_records(folder, "train"))
    _teach(plums, server, reparse=True)
    assert list(record_io.read_records(folder, "train")) == before
    assert "7 the same, 1 still unparsed; rationales: 0 changed" in capsys.readouterr().out


def test_no_key_server_or_package_is_needed(plums, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    _teach(plums, server)
    shutil.rmtree(plums.rationales)
    for teacher in ("openai:mock", "vllm:mock"):
        if teacher == "vllm:mock":
            (plums.data_dir / "plums/answers/openai-mock").rename(plums.data_dir / "plums/answers/vllm-mock")
        manifest = teach(
            "plums",
            teacher=teacher,
            data_dir=plums.data_dir,
            model_settings=ModelSettings(asks=False),
            job_settings=JobSettings(reparse=True),
        )
        assert manifest["parsed"]["test"] == 2
        assert manifest["reread"] == {"without an earlier record": 8}


def test_a_store_of_an_earlier_version_that_is_half_asked_is_read_as_far_as_it_goes(
    plums, server, earlier_store
):
    from types import SimpleNamespace

    from stepdistill_jax import datasets
    from stepdistill_jax.teacher.prompting.few_shot import make_prompting

    prompting = make_prompting(
        datasets.get("plums"),
        model=SimpleNamespace(model="mock", chat=True),
        settings=PromptSettings(),
        labels=(),
        examples=tuple,
    )
    first, second, *_ = datasets.read_examples("plums", "train", plums.data_dir)
    asked = [prompting.requests(example, {})[0] for example in (first, second)]
    folder = plums.data_dir / "plums" / "answers" / "openai-mock"
    folder.mkdir(parents=True)
    earlier_store(
        folder / "answers.sqlite", [(request, "So. The answer is 2 * (1 + 2).") for request in asked]
    )
    manifest = _teach(plums, server, reparse=True)
    assert manifest["counts"] == {"train": 2}
    assert manifest["skipped"]["validation"] == {"not asked yet": 2}
    assert _labels(plums) == ["2 * (1 + 2)"] * 2
    assert server.asked.total() == 0
    assert _teach(plums, server)["counts"]["train"] == 4  # goes on
    assert server.asked.total() == 6


@pytest.mark.parametrize(
    ("teacher", "settings", "words"),
    [
        ("openai:mock", {}, "no .*answers.sqlite; answers that shards hold"),
        ("worked", {}, "--teacher worked has no stored answers"),
    ],
)
def test_what_cannot_be_read_again_is_said(plums, server, teacher, settings, words):
    with pytest.raises(ValueError, match=words):
        teach(
            "plums",
            teacher=teacher,
            data_dir=plums.data_dir,
            model_settings=ModelSettings(base_url=server.url),
            job_settings=JobSettings(reparse=True, **settings),
        )


def test_other_flags_than_those_of_the_job_are_named(plums, server):
    _teach(plums, server)
    with pytest.raises(ValueError, match=r"holds no answer to these prompts; give the flags"):
        teach(
            "plums",
            teacher="openai:mock",
            data_dir=plums.data_dir,
            model_settings=ModelSettings(base_url=server.url),
            prompting=PromptSettings(max_tokens=100),
            job_settings=JobSettings(reparse=True),
        )
    with pytest.raises(ValueError, match="leave out --shard, --merge and --dry_run"):
        JobSettings(reparse=True, merge=2)
