"""The routes: POST /predict, GET /healthz, GET /readyz, GET /metrics. Every answer but the metrics is JSON, errors too."""

import asyncio
import concurrent.futures
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.serving.batching import Batcher, Predictor, QueueFull
from stepdistill_jax.serving.limits import Limits
from stepdistill_jax.serving.lost_characters import LostCharacters
from stepdistill_jax.serving.metrics import Metrics
from stepdistill_jax.serving.request_reading import BadRequest, Request, read_request

_SUM_TOLERANCE = 1e-6
_ROUTES = "There are POST /predict and GET /healthz, /readyz and /metrics"


class Service:
    """What the routes share. It answers nothing until `open`; after `stop_taking` each connection ends with its answer."""

    def __init__(self, limits: Limits, *, report: Callable[[str], object]) -> None:
        """`report` gets one line for each text that the model could not answer, and of characters that it does not know."""
        self.metrics = Metrics()
        self._limits, self._report = limits, report
        self._predictor: Predictor | None = None
        self._batcher: Batcher | None = None
        self._lost_characters: LostCharacters | None = None
        self._writes_rationales = False
        self._state = "loading"
        self._tokenizing = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="tokenizing")
        self._in_flight = 0
        self.metrics.watch(
            "queue_rows", "Texts that wait.", lambda: self._batcher.num_waiting if self._batcher else 0
        )
        self.metrics.watch("in_flight_requests", "Requests being answered.", lambda: self._in_flight)
        self.metrics.watch(
            "ready", "1 if /readyz says 200.", lambda: float(self._state == "ready" and not self.problem())
        )

    def open(self, predictor: Predictor) -> None:
        """Takes requests from now on; the predictor is warm."""
        self._limits.check_longest(predictor.max_input_tokens)
        self._predictor = predictor
        self._lost_characters = LostCharacters(predictor, self._report)
        self._writes_rationales = _writes_rationales(predictor)
        self._batcher = Batcher(predictor, self._limits, self.metrics)
        self._state = "ready"

    def stop_taking(self) -> None:
        self._state = "stopping"

    @property
    def is_idle(self) -> bool:
        return not self._in_flight

    @property
    def is_computing(self) -> bool:
        return self._batcher is not None and self._batcher.is_busy

    async def close(self) -> None:
        self._tokenizing.shutdown(wait=False)
        if self._batcher:
            await self._batcher.close()

    def problem(self) -> str | None:
        return self._batcher.problem() if self._batcher else None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=self._limits.body_bytes, middlewares=[_errors_as_json])
        app.router.add_post("/predict", self._predict)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        """Whether the process is of use, or will be: 503 asks for a restart."""
        problem = self.problem()
        return _json({"status": problem or "alive"}, 503 if problem else 200)

    async def _readyz(self, request: web.Request) -> web.Response:
        """Whether requests are to be sent here: 503 while it loads, and once it stops."""
        state = self.problem() or self._state
        return _json({"status": state}, 200 if state == "ready" else 503)

    async def _metrics_text(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.text(), headers={"Content-Type": self.metrics.CONTENT_TYPE})

    async def _predict(self, request: web.Request) -> web.Response:
        self._in_flight += 1
        try:
            with self.metrics.request_seconds.time():
                response = await self._answer(request)
        except asyncio.CancelledError:
            self.metrics.requests.labels("client gone").inc()
            raise
        except Exception as error:
            self._report(f"a request was not answered: {type(error).__name__}: {visible_line(error)}")
            response = _refusal(500, "The server could not answer; its log says why.")
        finally:
            self._in_flight -= 1
        self.metrics.requests.labels(str(response.status)).inc()
        if self._state == "stopping":
            response.force_close()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        if self._state == "loading" or self.problem():
            return _refusal(503, f"The server is {self.problem() or self._state}.", retry_after=1)
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                body = await request.read()
        except TimeoutError:
            return _closing(_refusal(408, f"The body did not come within {self._limits.read_seconds:g} s."))
        except web.HTTPRequestEntityTooLarge:
            return _closing(_refusal(413, f"The body is larger than {self._limits.body_bytes:,} bytes."))
        except (web.HTTPException, web.RequestPayloadError, ValueError) as error:
            return _closing(_refusal(400, f"The body cannot be read: {visible_line(error)}"))
        try:
            asked = read_request(body, most_texts=self._limits.request_rows)
        except BadRequest as error:
            return _refusal(400, str(error))
        if asked.rationale and not self._writes_rationales:
            return _refusal(400, "rationale: this student has learnt none; leave it out.")
        return await self._ask(asked)

    async def _ask(self, asked: Request) -> web.Response:
        rows = self.metrics.rows
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                tokens = await asyncio.get_running_loop().run_in_executor(
                    self._tokenizing, self._num_tokens, asked.texts
                )
                results = await self._batcher.predict(asked.texts, tokens, rationale=asked.rationale)
        except QueueFull as error:
            return _refusal(
                429, f"The queue is full ({self._limits.queue_rows:,} texts).", retry_after=error.retry_after
            )
        except TimeoutError:
            rows.labels("expired").inc(len(asked.texts))
            wait = self._batcher.seconds_until_room(self._batcher.num_waiting)
            return _refusal(503, f"No answer within {self._limits.deadline_seconds:g} s.", retry_after=wait)
        except asyncio.CancelledError:
            rows.labels("cancelled").inc(len(asked.texts))
            raise
        return self._response(asked, results)

    def _num_tokens(self, texts: Sequence[str]) -> list[int]:
        self._lost_characters.look_for(texts)
        return self._predictor.num_tokens(texts)

    def _response(self, asked: Request, results: Sequence[Any]) -> web.Response:
        answers = []
        for index, result in enumerate(results):
            name = "text" if asked.is_one else f"texts[{index}]"
            try:
                if isinstance(result, Exception):
                    raise result
                if result.probability is None and self._predictor.choices:
                    self.metrics.rows.labels("failed").inc(len(results))
                    return _refusal(
                        400,
                        f"{name} has no token in the student's vocabulary; there is nothing to predict from.",
                    )
                answers.append(_as_json(result, asked.abstain_below))
            except Exception as error:
                self._report(
                    f"{name} of a request was not answered: {type(error).__name__}: {visible_line(error)}"
                )
                self.metrics.rows.labels("failed").inc(len(results))
                return _refusal(500, f"The student could not answer {name}; the server's log says why.")
        self.metrics.rows.labels("answered").inc(len(results))
        return _json(answers[0] if asked.is_one else {"predictions": answers})


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Of paths and methods that there are not; the headers stay, as a 405's Allow."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _refusal(error.status, f"{request.method} {request.path:.80}: {error.reason}. {_ROUTES}.")
        if allowed := error.headers.get("Allow"):
            response.headers["Allow"] = allowed
        return response


def _writes_rationales(predictor: Predictor) -> bool:
    try:
        predictor.check_writes_rationales()
    except ValueError:  # which names the student's folder: nothing for clients
        return False
    return True


def _as_json(prediction: Any, abstain_below: float) -> dict[str, Any]:
    """A `Prediction` as an object. What is no probability is an error, not an answer."""
    values = [*prediction.probabilities.values()]
    if prediction.probability is not None:
        values.append(prediction.probability)
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in values) or (
        prediction.probabilities and abs(sum(prediction.probabilities.values()) - 1) > _SUM_TOLERANCE
    ):
        raise ValueError(f"no probabilities: {prediction.probabilities}")
    unsure = prediction.probability is not None and prediction.probability < abstain_below
    return {
        "label": None if unsure else prediction.label,
        "probability": prediction.probability,
        "probabilities": prediction.probabilities,
        "rationale": prediction.rationale,
        "truncated": prediction.truncated,
    }


def _json(value: Any, status: int = 200) -> web.Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return web.Response(text=text, status=status, content_type="application/json")


def _refusal(status: int, error: str, *, retry_after: int | None = None) -> web.Response:
    response = _json({"error": error}, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _closing(response: web.Response) -> web.Response:
    response.force_close()  # what is left of the body is not waited for
    return response
