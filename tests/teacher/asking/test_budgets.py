"""A larger budget of tokens asks again what the smaller one cut, and nothing else."""

import shutil

import pytest

from stepdistill_jax.teacher import Answer, Batched, JobSettings, PromptSettings, teach


class Thinker:
    """Needs 1,000 tokens for questions about 11 and 13 plums, and few for the others."""

    name, model, chat, max_batch = "thinker", "thinker-1", False, 64

    def __init__(self):
        self.asked = []

    def start(self):
        pass

    def stop(self):
        pass

    def answer_batch(self, requests):
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        number = request.prompt.split("Mia has ")[-1].split()[0]
        if number in ("11", "13") and request.sampling.max_tokens < 1000:
            return Answer("", "length", thoughts="Let me see. ")
        return Answer(f"Two more. The answer is ({number} + 2).", "stop")


@pytest.fixture
def engine():
    return Thinker()


def _teach(plums, engine, max_tokens, rows=4, **settings):
    return teach(
        "plums",
        teacher=Batched(engine),
        data_dir=plums.data_dir,
        prompting=PromptSettings(max_tokens=max_tokens),
        job_settings=JobSettings(rows={"train": rows}, **settings),
    )


def _ids(engine):
    asked, engine.asked = [request.example_id for request in engine.asked], []
    return sorted(asked)


@pytest.mark.parametrize("settings", [{}, {"retry_failed": True}])
def test_only_what_was_cut_is_asked_again(plums, engine, settings):
    manifest = _teach(plums, engine, 100)
    assert len(_ids(engine)) == 4
    assert manifest["unparsed"]["train"] == {"budget spent on reasoning": 2}
    _teach(plums, engine, 100, retry_failed=True)  # the same budget would be spent again
    assert _ids(engine) == []
    _teach(plums, engine, 500, **settings)
    assert _ids(engine) == ["plums/train/1", "plums/train/3"]
    manifest = _teach(plums, engine, 1000, **settings)
    assert _ids(engine) == ["plums/train/1", "plums/train/3"]
    assert manifest["parsed"] == {"train": 4}
    assert manifest["settings"]["sampling"]["max_tokens"] == 1000


def test_a_smaller_budget_asks_everything_as_an_answer_may_not_fit(plums, engine):
    _teach(plums, engine, 2000)
    _ids(engine)
    _teach(plums, engine, 1500)
    assert len(_ids(engine)) == 4


@pytest.mark.parametrize(("max_tokens", "asked"), [(256, 2), (1000, 2), (100, 4)])
def test_a_half_asked_store_of_an_earlier_version_goes_on(plums, engine, max_tokens, asked, earlier_store):
    """Its answers are those that a job with the default budget was given before it was killed."""
    _teach(plums, engine, 256)
    done = [request for request in engine.asked if request.example_id in ("plums/train/0", "plums/train/2")]
    _ids(engine)
    folder = plums.data_dir / "plums" / "answers" / "thinker"
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.rmtree(plums.rationales)
    earlier_store(folder / "answers.sqlite", [(r, "Paid for. The answer is (1).") for r in done])
    _teach(plums, engine, max_tokens)
    assert len(_ids(engine)) == asked


def test_shards_and_their_merge_take_over_what_a_smaller_budget_answered(plums, engine):
    from stepdistill_jax.teacher.asking.job_settings import Shard

    _teach(plums, engine, 100)
    _ids(engine)
    for index in range(2):
        _teach(plums, engine, 1000, shard=Shard(index, 2))
    assert _ids(engine) == ["plums/train/1", "plums/train/3"]
    manifest = _teach(plums, engine, 1000, merge=2)
    assert _ids(engine) == []
    assert manifest["parsed"] == {"train": 4}
