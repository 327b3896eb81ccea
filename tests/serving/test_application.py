import asyncio
import contextlib
import json
import re

import pytest
from aiohttp.test_utils import TestClient, TestServer
from fake_student import FakeStudent

from stepdistill_jax.serving.application import Service
from stepdistill_jax.serving.limits import Limits


def run(scenario, *, student=None, opened=True, **limits):
    """Runs scenario(client, service, student) against a server; returns what it returns, and the lines it reported."""
    said = []
    student = student or FakeStudent()

    async def main():
        service = Service(Limits(**limits), report=said.append)
        server = TestServer(service.application(), handler_cancellation=True)
        async with TestClient(server) as client:
            if opened:
                service.open(student)
            try:
                return await asyncio.wait_for(scenario(client, service, student), 20)
            finally:
                await service.close()

    return asyncio.run(main()), said


async def post(client, body):
    """(status, content, headers) of a request whose body is an object, or what aiohttp sends as it is."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    async with client.post("/predict", data=data) as response:
        return response.status, await response.json(), response.headers


async def status_of(client, path):
    async with client.get(path) as response:
        return response.status


async def metric(client, name):
    async with client.get("/metrics") as response:
        return float(re.search(rf"^{re.escape(name)} (\S+)$", await response.text(), re.MULTILINE)[1])


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_one_text_is_one_prediction():
    async def scenario(client, service, student):
        return await post(client, {"text": "u: Ünïcode", "rationale": True})

    (status, answer, _), _ = run(scenario)
    assert status == 200
    assert answer == {
        "label": "urgent",
        "probability": 0.9,
        "probabilities": {"urgent": 0.9, "later": pytest.approx(0.1)},
        "rationale": "because of u: Ünïcode",
        "truncated": False,
    }


def test_characters_that_the_student_does_not_know_are_in_the_log():
    async def scenario(client, service, student):
        return [(await post(client, {"text": text}))[0] for text in ("u 丁", "u 丁")]

    statuses, said = run(scenario)
    assert statuses == [200, 200]
    assert said == ["texts are changed by the vocabulary: it has no '丁' (each is said once)"]


def test_many_texts_come_back_in_their_order_and_may_abstain():
    async def scenario(client, service, student):
        return await post(client, {"texts": ["x 1", "u 2", "x " * 70], "abstain_below": 0.8})

    (status, answer, _), _ = run(scenario)
    assert status == 200
    assert [row["label"] for row in answer["predictions"]] == [None, "urgent", None]
    assert [row["truncated"] for row in answer["predictions"]] == [False, False, True]
    for row in answer["predictions"]:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_bad_requests_are_400_and_the_next_is_answered():
    async def scenario(client, service, student):
        bad = [await post(client, body) for body in (b"{", b'{"text": ""}', b'{"texts": []}')]
        return bad, (await post(client, {"text": "u"}))[0], student.batches

    (bad, good, batches), _ = run(scenario)
    assert [status for status, _, _ in bad] == [400] * 3
    assert "text is empty" in bad[1][1]["error"]
    assert good == 200
    assert batches == [["u"]]


def test_a_text_without_a_token_is_400():
    async def scenario(client, service, student):
        return await post(client, {"texts": ["u", "nothing"]})

    (status, answer, _), said = run(scenario)
    assert (status, said) == (400, [])
    assert answer["error"].startswith("texts[1] has no token in the student's vocabulary")


def test_a_rationale_of_a_student_that_has_learnt_none_is_400():
    async def scenario(client, service, student):
        return await post(client, {"text": "u", "rationale": True})

    student = FakeStudent()
    student.writes_rationales = False
    (status, answer, _), _ = run(scenario, student=student)
    assert (status, answer["error"]) == (400, "rationale: this student has learnt none; leave it out.")


def test_a_body_that_is_too_large_is_413_and_not_read_on():
    async def scenario(client, service, student):
        async def without_end():
            with contextlib.suppress(ConnectionError):
                while True:
                    yield b"x" * 65_536

        async with client.post("/predict", data=without_end()) as response:
            return response.status, response.headers.get("Connection"), (await post(client, {"text": "u"}))[0]

    assert run(scenario, body_bytes=100_000)[0] == (413, "close", 200)


def test_a_slow_body_is_given_up_and_keeps_nobody_waiting():
    async def slow():
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                yield b" "
                await asyncio.sleep(0.05)

    async def scenario(client, service, student):
        slow_request = asyncio.create_task(post(client, slow()))
        others = [(await post(client, {"text": "u"}))[0] for _ in range(5)]
        assert not slow_request.done()
        return (await slow_request)[0], others

    assert run(scenario, read_seconds=0.3)[0] == (408, [200] * 5)


def test_a_full_queue_is_429_with_a_time_to_come_again():
    async def scenario(client, service, student):
        student.gate.clear()
        waiting = [asyncio.create_task(post(client, {"text": "u"}))]
        await until(lambda: service._batcher.is_busy)  # all three at once would be one too many
        waiting += [asyncio.create_task(post(client, {"text": "u"})) for _ in range(2)]
        await until(lambda: service._batcher.num_waiting == 2)
        refused = await post(client, {"text": "u"})
        depth = await metric(client, "stepdistill_queue_rows")
        student.gate.set()
        return refused, depth, [status for status, _, _ in await asyncio.gather(*waiting)]

    ((status, answer, headers), depth, waited), _ = run(scenario, queue_rows=2, request_rows=2, batch_rows=1)
    assert (status, waited, depth) == (429, [200] * 3, 2)
    assert int(headers["Retry-After"]) >= 1
    assert "queue is full" in answer["error"]


def test_past_its_deadline_a_request_is_503_counted_and_not_computed():
    async def scenario(client, service, student):
        student.gate.clear()
        held = asyncio.create_task(post(client, {"text": "u held"}))
        await until(lambda: service._batcher.is_busy)
        late = await post(client, {"texts": ["u late", "u later"]})
        student.gate.set()
        await held
        expired = await metric(client, 'stepdistill_rows_total{outcome="expired"}')
        again = await post(client, {"text": "u again"})
        return late, expired, again[0], student.batches

    ((status, _, headers), expired, again, batches), _ = run(scenario, deadline_seconds=0.1)
    assert (status, again) == (503, 200)
    assert int(headers["Retry-After"]) >= 1
    assert expired == 3  # the held one, too
    assert batches == [["u held"], ["u again"]]


def test_a_client_that_is_gone_leaves_the_queue():
    async def scenario(client, service, student):
        student.gate.clear()
        held = asyncio.create_task(post(client, {"text": "u held"}))
        await until(lambda: service._batcher.is_busy)
        gone = [asyncio.create_task(post(client, {"text": f"gone {i}"})) for i in range(20)]
        await until(lambda: service._batcher.num_waiting == 20)
        for task in gone:
            task.cancel()
        await until(lambda: service._batcher.num_waiting == 0)
        student.gate.set()
        return (
            (await held)[0],
            await metric(client, 'stepdistill_rows_total{outcome="cancelled"}'),
            student.batches,
        )

    held, cancelled, batches = run(scenario)[0]
    assert (held, cancelled, batches) == (200, 20, [["u held"]])


def test_a_text_that_the_student_cannot_answer_is_500_and_said():
    async def scenario(client, service, student):
        return await asyncio.gather(*(post(client, {"text": text}) for text in ("u 1", "fail", "nan", "x 2")))

    answers, said = run(scenario)
    assert [status for status, _, _ in answers] == [200, 500, 500, 200]
    assert any("RuntimeError: no such thing" in line for line in said)
    assert any("no probabilities" in line for line in said)


def test_before_it_has_loaded_it_lives_and_is_not_ready():
    async def scenario(client, service, student):
        before = [await status_of(client, path) for path in ("/healthz", "/readyz")]
        refused = (await post(client, {"text": "u"}))[0]
        service.open(student)
        after = [await status_of(client, path) for path in ("/healthz", "/readyz")]
        service.stop_taking()
        stopping = [await status_of(client, path) for path in ("/healthz", "/readyz")]
        return before, refused, after, stopping, (await post(client, {"text": "u"}))

    before, refused, after, stopping, last = run(scenario, opened=False)[0]
    assert (before, refused, after, stopping) == ([200, 503], 503, [200, 200], [200, 503])
    assert (last[0], last[2]["Connection"]) == (200, "close")


def test_once_the_loop_that_asks_the_model_is_dead_it_says_so():
    async def scenario(client, service, student):
        service._batcher._loop.cancel()
        await asyncio.wait([service._batcher._loop])
        return [await status_of(client, path) for path in ("/healthz", "/readyz")], (
            await post(client, {"text": "u"})
        )[0]

    assert run(scenario)[0] == ([503, 503], 503)


def test_metrics_tell_memory_as_it_is_now():
    async def scenario(client, service, student):
        await post(client, {"texts": ["u"] * 5})
        return (
            await metric(client, "stepdistill_batch_rows_sum"),
            await metric(client, 'stepdistill_requests_total{status="200"}'),
            await metric(client, "process_resident_memory_bytes"),
            await metric(client, "stepdistill_ready"),
        )

    rows, requests, memory, ready = run(scenario)[0]
    assert (rows, requests, ready) == (5, 1, 1)
    assert memory > 1 << 20


def test_a_student_whose_texts_are_longer_than_a_batch_is_not_served():
    with pytest.raises(ValueError, match="at least --batch_tokens 64"):
        run(None, batch_tokens=32)


def test_an_unknown_path_is_404_and_a_wrong_method_405_both_in_json():
    async def scenario(client, service, student):
        async with client.get("/nowhere?x=1") as nowhere, client.get("/predict") as got:
            return nowhere.status, await nowhere.json(), got.status, await got.json(), got.headers["Allow"]

    nowhere, said_of_nowhere, got, said_of_get, allowed = run(scenario)[0]
    assert (nowhere, got, allowed) == (404, 405, "POST")
    assert said_of_nowhere["error"].startswith("GET /nowhere: Not Found. There are POST /predict and")
    assert said_of_get["error"].startswith("GET /predict: Method Not Allowed.")


def test_what_nobody_has_foreseen_is_500_in_json_counted_and_said():
    async def scenario(client, service, student):
        student.num_tokens = lambda texts: 1 / 0
        answer = await post(client, {"text": "u"})
        return answer, await metric(client, 'stepdistill_requests_total{status="500"}')

    ((status, answer, _), counted), said = run(scenario)
    assert (status, counted) == (500, 1)
    assert answer == {"error": "The server could not answer; its log says why."}
    assert said == ["a request was not answered: ZeroDivisionError: division by zero"]
