import asyncio

import pytest
from fake_student import FakeStudent

from stepdistill_jax.serving.batching import Batcher, QueueFull
from stepdistill_jax.serving.limits import Limits
from stepdistill_jax.serving.metrics import Metrics


def run(scenario, student=None, **limits):
    """Runs scenario(batcher, student) with a batcher of its own; returns what it returns."""

    async def main():
        batcher = Batcher(student, Limits(**limits), Metrics())
        try:
            return await asyncio.wait_for(scenario(batcher, student), 20)
        finally:
            await batcher.close()

    student = student or FakeStudent()
    return asyncio.run(main())


def ask(batcher, texts, *, rationale=False):
    return asyncio.create_task(
        batcher.predict(texts, [len(text.split()) for text in texts], rationale=rationale)
    )


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def hold(batcher, student):
    """Keeps the model busy with one text; what follows gathers in the queue."""
    student.gate.clear()
    held = ask(batcher, ["held"])
    await until(lambda: batcher.is_busy)
    return held


def test_texts_of_many_requests_are_computed_together_and_go_back_to_theirs():
    async def scenario(batcher, student):
        held = await hold(batcher, student)
        tasks = [ask(batcher, [f"{'u' if i % 3 == 0 else 'x'} {i}"]) for i in range(8)]
        await asyncio.sleep(0.01)
        student.gate.set()
        answers = await asyncio.gather(*tasks)
        await held
        return [answer.label for (answer,) in answers], student.batches

    labels, batches = run(scenario)
    assert labels == ["urgent" if i % 3 == 0 else "later" for i in range(8)]
    assert [len(batch) for batch in batches] == [1, 8]


@pytest.mark.parametrize("batch_rows", [1, 3, 32])
def test_no_batch_is_above_the_bound_whatever_a_request_holds(batch_rows):
    async def scenario(batcher, student):
        answers = await asyncio.gather(*(ask(batcher, [f"u {i}"] * n) for i, n in enumerate((1, 7, 100))))
        return [len(answer) for answer in answers], student.batches

    counts, batches = run(scenario, batch_rows=batch_rows)
    assert counts == [1, 7, 100]
    assert max(map(len, batches)) <= batch_rows
    assert sum(map(len, batches)) == 108


def test_no_batch_has_more_tokens_than_the_bound_with_padding():
    async def scenario(batcher, student):
        held = await hold(batcher, student)
        texts = ["u " * n for n in (60, 5, 5, 5, 30, 5, 60, 5)]
        tasks = [ask(batcher, [text]) for text in texts]
        await asyncio.sleep(0.01)
        student.gate.set()
        await asyncio.gather(held, *tasks)
        return student.batches[1:]

    batches = run(scenario, batch_tokens=64)
    padded = [len(batch) * max(len(text.split()) for text in batch) for batch in batches]
    assert max(padded) <= 64
    assert sum(map(len, batches)) == 8
    assert len(batches[0]) == 1  # the oldest goes first, however long: none starves


def test_labels_and_rationales_are_asked_for_apart_and_neither_waits_for_ever():
    async def scenario(batcher, student):
        held = await hold(batcher, student)
        tasks = [ask(batcher, [f"u {i}"], rationale=i % 2 == 1) for i in range(6)]
        await asyncio.sleep(0.01)
        student.gate.set()
        await held
        return [answer[0].rationale for answer in await asyncio.gather(*tasks)], student.batches[1:]

    rationales, batches = run(scenario)
    assert rationales == [None, "because of u 1", None, "because of u 3", None, "because of u 5"]
    assert [len(batch) for batch in batches] == [3, 3]


def test_one_bad_text_fails_alone():
    async def scenario(batcher, student):
        held = await hold(batcher, student)
        tasks = [ask(batcher, [text]) for text in ["u 1", "u 2", "fail", "u 3"] + ["x"] * 4]
        await asyncio.sleep(0.01)
        student.gate.set()
        await held
        return [answer[0] for answer in await asyncio.gather(*tasks)]

    answers = run(scenario)
    assert [type(answer).__name__ for answer in answers].count("RuntimeError") == 1
    assert isinstance(answers[2], RuntimeError)
    assert [answer.label for answer in answers if not isinstance(answer, Exception)] == ["urgent"] * 3 + [
        "later"
    ] * 4


def test_requests_that_are_gone_are_never_computed_and_the_loop_lives():
    async def scenario(batcher, student):
        held = await hold(batcher, student)
        gone = [ask(batcher, [f"gone {i}"]) for i in range(200)]
        await asyncio.sleep(0.01)
        assert batcher.num_waiting == 200
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        assert batcher.num_waiting == 0
        held.cancel()  # in the middle of its batch
        student.gate.set()
        answers = await asyncio.gather(*(ask(batcher, [f"u {i}"]) for i in range(50)))
        return [answer[0].label for answer in answers], student.batches, batcher.problem()

    labels, batches, problem = run(scenario)
    assert labels == ["urgent"] * 50
    assert [text for batch in batches for text in batch if text.startswith("gone")] == []
    assert problem is None


def test_a_full_queue_refuses_a_whole_request_and_says_when_to_come_again():
    async def scenario(batcher, student):
        held = await hold(batcher, student)
        first = ask(batcher, ["u"] * 3)
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFull) as refused:
            await batcher.predict(["u", "u"], [1, 1], rationale=False)
        assert batcher.num_waiting == 3
        student.gate.set()
        await asyncio.gather(held, first)
        return refused.value.retry_after

    assert run(scenario, queue_rows=4, request_rows=4) >= 1


def test_a_batch_without_end_is_a_problem():
    async def scenario(batcher, student):
        held = await hold(batcher, student)
        await asyncio.sleep(0.06)
        problem = batcher.problem()
        student.gate.set()
        await held
        return problem, batcher.problem()

    before, after = run(scenario, stalled_seconds=0.05)
    assert "at one batch" in before
    assert after is None


def test_wrong_limits_are_one_line():
    with pytest.raises(ValueError, match=r"--batch_rows=0; it must be at least 1"):
        Limits(batch_rows=0)
    with pytest.raises(ValueError, match=r"--read_seconds=nan"):
        Limits(read_seconds=float("nan"))
    with pytest.raises(ValueError, match=r"--request_rows=9 is above --queue_rows=8"):
        Limits(request_rows=9, queue_rows=8)
    with pytest.raises(ValueError, match=r"at least --batch_tokens 512"):
        Limits(batch_tokens=100).check_longest(512)
