"""How the job asks: at what pace, with how much patience, at what price. Nothing here changes what is answered."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stepdistill_jax.datasets.record_io import DEFAULT_SHARD_SIZE


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens."""

    prompt: float
    completion: float

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """In US dollars."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Shard:
    """A worker's part: the examples whose position over all splits is `index` modulo `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class JobSettings:
    """Settings of a job, checked when it is made.

    Attributes:
      concurrency: requests at once, at most; how many the server bears is found out.
      requests_per_minute, tokens_per_minute: limits of this process; None is none. Tokens are those of prompt and answer.
      max_tries: of one request, before it is given up.
      max_outage_seconds: how long the server may be away, or ask to wait, before the job ends.
      max_failed: share of the examples, in [0, 1]; with more of them failed the job stops and writes no records.
      rows: split -> how many of its first examples to ask for, in the splits named only; None asks for all.
      retry_failed: whether to ask again what was refused in an earlier run, too.
      shard: this worker's part; None does everything.
      reparse: whether to read again what is stored, write the records, and ask nothing.
      merge: number of shards to put together instead of asking; None asks.
      shard_size: records a file.
      prices: None where cost is not to be shown.
      first: how many examples are asked first and shown, with what all will cost, before the rest is asked; 0 asks all at once.
      is_attended: whether somebody at a terminal is asked then if the rest is to follow; it follows unasked otherwise.
      dry_run: whether to show a prompt, the tokens and the cost, and ask nothing.
      stop_seconds: how long a stopped job waits for what is under way.
    """

    concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_tries: int = 8
    max_outage_seconds: float = 1800.0
    max_failed: float = 0.05
    rows: Mapping[str, int] | None = None
    retry_failed: bool = False
    reparse: bool = False
    shard: Shard | None = None
    merge: int | None = None
    shard_size: int = DEFAULT_SHARD_SIZE
    prices: Prices | None = None
    first: int = 0
    is_attended: bool = False
    dry_run: bool = False
    stop_seconds: float = 20.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_tries", "shard_size", "merge"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value}: give 1 or more.")
        if self.first < 0:
            raise ValueError(f"--first {self.first}: give a number of examples, or 0 to ask all at once.")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name} {value}: give more than 0, or leave it out for no limit.")
        if not self.max_outage_seconds >= 0:
            raise ValueError(f"--max_outage {self.max_outage_seconds:g} s: give a time such as 30m, or 0.")
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f"--max_failed {self.max_failed}: give a share from 0 to 1, such as 0.05.")
        if self.shard is not None and self.merge is not None:
            raise ValueError("--shard and --merge: give one; merge when all shards have ended.")
        if self.reparse and (self.shard is not None or self.merge is not None or self.dry_run):
            raise ValueError("--reparse reads what is stored; leave out --shard, --merge and --dry_run.")


def parse_duration(text: str) -> float:
    """'90s', '30m', '2h' or '1d' -> seconds; a number alone is minutes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?", text.strip())
    if match is None:
        raise ValueError(
            f"--max_outage {text}: give a time such as 90s, 30m or 2h; a number alone is minutes."
        )
    return float(match[1]) * {"s": 1.0, "h": 3600.0, "d": 86400.0}.get(match[2], 60.0)


def parse_shard(text: str) -> Shard:
    """'0/4' is the first of four."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"--shard {text}: give i/n with i from 0 to n-1, such as 0/4.")
    return Shard(int(match[1]), int(match[2]))


def parse_rows(text: str) -> dict[str, int]:
    """'train=200,test=100' -> {'train': 200, 'test': 100}."""
    pairs = [re.fullmatch(r"(\w+)=(\d+)", part.strip()) for part in text.split(",")]
    if not all(pairs):
        raise ValueError(f"--rows {text}: give SPLIT=NUMBER,…, such as train=200,test=100.")
    return {pair[1]: int(pair[2]) for pair in pairs}


def read_prices(path: Path, model: str) -> Prices:
    """The model's prices of a file such as {"gpt-4o-mini": {"prompt": 0.15, "completion": 0.60}}."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        entry = table[model]
        return Prices(float(entry["prompt"]), float(entry["completion"]))
    except KeyError as error:
        raise ValueError(
            f"--prices {path}: no {error}; it should hold "
            f'{{"{model}": {{"prompt": DOLLARS, "completion": DOLLARS}}}}, each per million tokens.'
        ) from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"--prices {path}: not a table of prices in JSON ({error}).") from error
