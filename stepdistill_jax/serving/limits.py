"""What a server takes and how long it waits: every bound in one place, checked when it starts."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Attributes:
    batch_rows: texts that the model is asked at once, at most.
    batch_tokens: the same in tokens, padding included: texts times the tokens of the longest.
    max_wait_ms: how long a text waits for others while the model is idle; a busy model is not waited for at all.
    queue_rows: texts that wait, at most; beyond it requests get 429.
    request_rows: texts of one request, at most.
    body_bytes: of a request, unpacked.
    read_seconds: within which a request's body has come.
    deadline_seconds: within which a request is answered, or given up with 503.
    grace_seconds: within which, once it is told to stop, the server answers what it has taken.
    stalled_seconds: of one batch, after which the server calls itself dead.
    """

    batch_rows: int = 32
    batch_tokens: int = 16_384
    max_wait_ms: float = 2.0
    queue_rows: int = 1_024
    request_rows: int = 256
    body_bytes: int = 1 << 20
    read_seconds: float = 10.0
    deadline_seconds: float = 30.0
    grace_seconds: float = 30.0
    stalled_seconds: float = 300.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            lowest = (
                0 if field.name in ("max_wait_ms", "grace_seconds") else 1 if field.type is int else 0.001
            )
            if not lowest <= value < float("inf"):
                raise ValueError(f"--{field.name}={value}; it must be at least {lowest}, and a number.")
        if self.request_rows > self.queue_rows:
            raise ValueError(
                f"--request_rows={self.request_rows} is above --queue_rows={self.queue_rows}: such a request could never "
                "wait; raise the one or lower the other."
            )

    def check_longest(self, max_input_tokens: int) -> None:
        """Raises a ValueError if the longest text that the student reads is more than a batch may hold."""
        if max_input_tokens > self.batch_tokens:
            raise ValueError(
                f"--batch_tokens={self.batch_tokens} is less than the {max_input_tokens} tokens of the longest text that "
                f"this student reads; give at least --batch_tokens {max_input_tokens}."
            )
