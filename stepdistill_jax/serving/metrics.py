"""What a server counts, as Prometheus reads it at GET /metrics."""

from collections.abc import Callable

import prometheus_client

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_POWERS_OF_TWO = tuple(float(2**power) for power in range(11))
_TOKENS = tuple(float(2**power) for power in range(4, 18))


class Metrics:
    """Counters of one server, in a registry of its own; with the process's memory as it is now, not its maximum."""

    CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        self.requests = prometheus_client.Counter(
            "stepdistill_requests", "Requests to /predict, by status.", ["status"], registry=registry
        )
        self.request_seconds = prometheus_client.Histogram(
            "stepdistill_request_seconds",
            "From a request's headers to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.rows = prometheus_client.Counter(
            "stepdistill_rows",
            "Texts, by what became of them: answered, failed, refused (queue full), expired (deadline), cancelled (client "
            "gone).",
            ["outcome"],
            registry=registry,
        )
        self.batch_rows = prometheus_client.Histogram(
            "stepdistill_batch_rows", "Texts of a batch.", buckets=_POWERS_OF_TWO, registry=registry
        )
        self.batch_tokens = prometheus_client.Histogram(
            "stepdistill_batch_tokens",
            "Tokens of a batch, padding included.",
            buckets=_TOKENS,
            registry=registry,
        )
        self.batch_seconds = prometheus_client.Histogram(
            "stepdistill_batch_seconds",
            "The model's time for a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        for outcome in ("answered", "failed", "refused", "expired", "cancelled"):
            self.rows.labels(outcome)  # so that each is there from the start, as 0

    def watch(self, name: str, description: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        prometheus_client.Gauge(f"stepdistill_{name}", description, registry=self._registry).set_function(
            read
        )

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return prometheus_client.generate_latest(self._registry)
