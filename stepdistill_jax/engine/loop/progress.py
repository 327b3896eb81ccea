"""The line that says how far a run is: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

from stepdistill_jax.base.visible import visible

# A bar of ten characters, whatever stands behind it: losses and rates are what is read.
_BAR = "{percentage:3.0f}% {bar:10} {n_fmt}/{total_fmt} {elapsed}<{remaining}{postfix}"
_SHOWN = {"loss": "loss", "label_loss": "label", "rationale_loss": "rationale", "learning_rate": "lr"}


def announce(what: str) -> None:
    """Says on a terminal what takes a while before there is a bar; a log needs no such line."""
    if sys.stderr.isatty():
        print(visible(what), file=sys.stderr, flush=True)


class Progress:
    """Steps, losses, tokens per second, time left. Compiling and evaluating do not count towards the rate."""

    def __init__(
        self, *, first_step: int, total_steps: int, period: int, stream: TextIO | None = None
    ) -> None:
        """Begins at `first_step`, the number of steps taken before.

        Args:
          period: steps between lines in a log; a terminal's bar moves at every step.
          stream: where to write, default standard error.
        """
        self._stream = stream or sys.stderr
        self._total, self._period = total_steps, period
        self._steps = self._tokens = 0
        self._seconds = 0.0
        self._resumed_at: float | None = None
        self._bar = (
            tqdm(
                total=total_steps, initial=first_step, file=self._stream, dynamic_ncols=True, bar_format=_BAR
            )
            if self._stream.isatty()
            else None
        )
        if self._bar is not None and first_step < total_steps:
            self._bar.set_postfix_str("compiling the step")

    def pause(self) -> None:
        """Stops the clock, for what is not a training step."""
        if self._resumed_at is not None:
            self._seconds += time.monotonic() - self._resumed_at
            self._resumed_at = None

    def resume(self) -> None:
        """Starts the clock."""
        if self._resumed_at is None:
            self._resumed_at = time.monotonic()

    @property
    def has_begun(self) -> bool:
        """Whether the clock was ever started."""
        return self._resumed_at is not None or self._seconds > 0

    @property
    def seconds(self) -> float:
        """Spent in training steps."""
        return self._seconds + (time.monotonic() - self._resumed_at if self._resumed_at is not None else 0.0)

    def rates(self) -> dict[str, float]:
        """steps_per_second and (non-padding) tokens_per_second so far, and the seconds that they are taken over.

        Empty as long as no step was taken with the clock on: there is no rate yet.
        """
        seconds = self.seconds
        if not (self._steps and seconds):
            return {}
        return {
            "steps_per_second": self._steps / seconds,
            "tokens_per_second": self._tokens / seconds,
            "seconds": seconds,
        }

    def step(self, step: int, values: Mapping[str, float | None], *, num_tokens: int) -> None:
        """Shows the step's losses; `num_tokens` are its non-padding tokens, inputs and targets."""
        if self._resumed_at is not None:
            self._steps += 1
            self._tokens += num_tokens
        shown = [
            f"{label} {values[name]:.4g}" for name, label in _SHOWN.items() if values.get(name) is not None
        ]
        rates = self.rates()
        if rates:
            shown.append(f"{rates['tokens_per_second']:,.0f} tokens/s")
        if self._bar is not None:
            self._bar.update(1)
            self._bar.set_postfix_str(", ".join(shown), refresh=False)
        elif step % self._period == 0 or step == self._total:
            left = (self._total - step) / rates["steps_per_second"] if rates else None
            shown.append(f"{tqdm.format_interval(left)} left" if left is not None else "compiled")
            self._say(f"step {step}/{self._total} ({step / self._total:.0%})  " + ", ".join(shown))

    def say(self, message: str) -> None:
        """Writes one line beside the bar."""
        if self._bar is not None:
            self._bar.write(visible(message), file=self._stream)
        else:
            self._say(message)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _say(self, line: str) -> None:
        print(visible(line), file=self._stream, flush=True)
