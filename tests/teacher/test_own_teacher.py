"""Teachers of one's own: a class that answers one request, and an engine that answers many."""

import sys
from types import ModuleType

import pytest

from stepdistill_jax.datasets import record_io
from stepdistill_jax.teacher import Answer, Batched, JobSettings, PromptSettings, RequestError, teach
from stepdistill_jax.teacher.prompting.quality import QualityRules


class MyTeacher:
    """As docs/teacher.md shows one; busy at every first try."""

    name, model, chat = "mine", "my-model-1", False

    def __init__(self, settings=None):
        self.asked = []

    async def answer(self, request):
        self.asked.append(request)
        if sum(request == other for other in self.asked) == 1:
            raise RequestError("busy", "come back", mend="retry", overload=True, retry_after_seconds=0.01)
        number = request.prompt.split("Mia has ")[-1].split()[0]
        return Answer(f"2 more. The answer is ({number} + 2).", "stop", 5, 7)


class Engine:
    """Answers batches, and notes how large they were."""

    name, model, chat, max_batch = "engine", "engine-1", False, 3

    def __init__(self):
        self.batches, self.calls = [], []

    def start(self):
        self.calls.append("start")

    def answer_batch(self, requests):
        self.batches.append(len(requests))
        return [
            RequestError("too long") if "has 11 " in request.prompt else Answer("One. The answer is (1).")
            for request in requests
        ]

    def stop(self):
        self.calls.append("stop")


def test_a_class_with_one_method_is_a_teacher(plums, monkeypatch):
    module = ModuleType("my_teacher")
    module.MyTeacher = MyTeacher
    monkeypatch.setitem(sys.modules, "my_teacher", module)
    manifest = teach("plums", teacher="own:my_teacher:MyTeacher", data_dir=plums.data_dir)
    assert manifest["parsed"] == {"train": 4, "validation": 2, "test": 2}
    requests = manifest["requests"]
    assert (requests["asked"], requests["answered"], requests["retried"]) == (16, 8, {"busy": 8})
    assert manifest["tokens"] == {"prompt": 40, "completion": 56}
    records = list(record_io.read_records(plums.rationales / "mine", "train"))
    assert [record["teacher_label"] for record in records] == [f"({n} + 2)" for n in (10, 11, 12, 13)]


def test_a_class_that_is_not_there_is_named(plums):
    with pytest.raises(ValueError, match="own:nowhere:Mine: No module named 'nowhere'"):
        teach("plums", teacher="own:nowhere:Mine", data_dir=plums.data_dir)


def test_an_engine_gets_batches_and_may_fail_single_requests(plums):
    engine = Engine()
    manifest = teach(
        "plums",
        teacher=Batched(engine),
        data_dir=plums.data_dir,
        job_settings=JobSettings(concurrency=1, max_failed=0.2),
    )
    assert engine.calls == ["start", "stop"]
    assert sum(engine.batches) == 8
    assert max(engine.batches) == 3
    assert manifest["requests"]["failed"] == {"too long": 1}
    assert manifest["skipped"]["train"] == {"too long": 1}


def test_an_engine_that_breaks_ends_the_job_with_its_words(plums):
    engine = Engine()
    engine.answer_batch = lambda requests: 1 / 0
    with pytest.raises(ValueError, match="engine error: ZeroDivisionError"):
        teach("plums", teacher=Batched(engine), data_dir=plums.data_dir)
    assert engine.calls == ["start", "stop"]


def test_several_samples_and_hints_are_asked_once_each_and_reused(plums):
    settings = PromptSettings(temperature=0.7, rules=QualityRules(samples=3, rationalise=True))
    engine = Engine()  # always wrong, so every example with a gold label is asked again with a hint
    rows = JobSettings(rows={"validation": 2})
    teach("plums", teacher=Batched(engine), data_dir=plums.data_dir, prompting=settings, job_settings=rows)
    assert sum(engine.batches) == 2 * (3 + 1)
    other_rules = PromptSettings(
        temperature=0.7, rules=QualityRules(samples=3, rationalise=True, max_label_words=1)
    )
    manifest = teach(
        "plums", teacher=Batched(engine), data_dir=plums.data_dir, prompting=other_rules, job_settings=rows
    )
    assert sum(engine.batches) == 8
    assert manifest["requests"]["reused"] == 8
    assert engine.calls == ["start", "stop"]  # not started for the second job, which asks nothing


def test_up_to_date_records_ask_nothing_and_start_nothing(plums, capsys):
    engine = Engine()
    settings = JobSettings(rows={"test": 2})
    first = teach("plums", teacher=Batched(engine), data_dir=plums.data_dir, job_settings=settings)
    assert teach("plums", teacher=Batched(engine), data_dir=plums.data_dir, job_settings=settings) == first
    assert "is up to date" in capsys.readouterr().out
    assert engine.calls == ["start", "stop"]
