"""What differs between a checkpoint and a model, all of it, in one line that can be read."""

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stepdistill_jax.engine.checkpoint.saved_checkpoint import PARAM_STATES, PARAMETERS

MOST_NAMED = 4  # of a kind, layers as one; more of them say the same: it is another model


def check_same_arrays(
    wanted: Mapping[str, Any],
    saved: Mapping[str, Any],
    *,
    path: str,
    unexpected_allowed: bool,
    optimizer_too: bool,
) -> None:
    """Compares a checkpoint's arrays with the model's, by name and shape.

    Args:
      wanted: name -> what the model wants, with a shape.
      saved: name -> what the checkpoint at `path` has, with a shape.
      unexpected_allowed: whether it may have more.
      optimizer_too: whether more is looked for in the optimizer's state as well.

    Raises:
      ValueError: lists what differs, MOST_NAMED of a kind at most, in one line, and says the mend.
    """
    missing = [name for name in wanted if name not in saved]
    looked_at = (PARAMETERS, PARAM_STATES) if optimizer_too else (PARAMETERS,)
    unexpected = [
        name for name in saved if name not in wanted and not unexpected_allowed and name.startswith(looked_at)
    ]
    differing = {
        name: (tuple(saved[name].shape), tuple(leaf.shape))
        for name, leaf in wanted.items()
        if name in saved and tuple(saved[name].shape) != tuple(leaf.shape)
    }
    names = [*missing, *unexpected, *differing]
    if not names:
        return
    shown = [name for name in names if not name.startswith(PARAM_STATES)] or names
    problems = [
        *_few([f"{name} is missing" for name in collapsed(n for n in missing if n in shown)]),
        *_few([f"{name} is not in the model" for name in collapsed(n for n in unexpected if n in shown)]),
        *_few(_shapes({name: both for name, both in differing.items() if name in shown})),
    ]
    of_optimizer = len(names) - len(shown)
    also = f"; and {of_optimizer} of the optimizer's arrays with them" if of_optimizer else ""
    raise ValueError(
        f"{path} does not fit the model, {len(names)} arrays differ: {'; '.join(problems)}{also}. "
        f"{_mend(missing, unexpected, differing)}"
    )


def _few(problems: Sequence[str]) -> list[str]:
    """The first of them, and how many there are besides."""
    besides = len(problems) - MOST_NAMED
    return [*problems[:MOST_NAMED], *([f"and {besides} more such"] if besides > 0 else [])]


def _shapes(differing: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    """A line for each change of shape: the first array that has it, and how many more do."""
    alike = collections.defaultdict(list)
    for name, both in differing.items():
        alike[both].append(name)
    lines = []
    for (has, wants), names in alike.items():
        first, *others = collapsed(names)
        more = f" (and {len(others)} more)" if others else ""
        lines.append(f"{first}{more} has shape {has}, the model wants {wants}")
    return sorted(lines, key=len)  # what a whole model shares, such as its embedding, has a short name


def _mend(missing: Sequence[str], unexpected: Sequence[str], differing: Mapping[str, tuple]) -> str:
    vocabulary = [
        both
        for name, both in differing.items()
        if name.endswith("token_embedder/embedding") and both[0][1:] == both[1][1:]
    ]
    if vocabulary:
        (saved, _), *_ = vocabulary[0]
        return (
            f"T5 pads its vocabulary's size; set network.T5Config.vocab_size = {saved}, which the checkpoint has (its "
            "ids beyond the vocabulary are never used)."
        )
    names = [*missing, *unexpected, *differing]
    if all(name.startswith(PARAM_STATES) for name in names):
        return (
            "The parameters fit, but another optimizer, or one set otherwise, saved the checkpoint: use that, or begin "
            "it afresh by RestoreCheckpointConfig.assignment_map = (('state/param_states/.*', None),) and "
            "fallback_to_scratch = True."
        )
    return (
        "Use the gin file of the model that was saved; or RestoreCheckpointConfig's assignment_map (other names), "
        "fallback_to_scratch (missing ones begin from scratch), strict = False (leaves out what the model lacks)."
    )


def collapsed(names: Iterable[str]) -> list[str]:
    """Names that differ in the number of their layer only, as one: 'encoder/layers_{0-11}/mlp/wo/kernel'."""
    layers: dict[str, list[int]] = collections.defaultdict(list)
    whole = []
    for name in names:
        match = re.search(r"(?<=layers_)\d+", name)
        if match:
            layers[f"{name[: match.start()]}{{}}{name[match.end() :]}"].append(int(match[0]))
        else:
            whole.append(name)
    return sorted(whole + [pattern.format(_ranges(numbers)) for pattern, numbers in layers.items()])


def _ranges(numbers: Iterable[int]) -> str:
    """[0, 1, 2, 5] to '{0-2,5}', [3] to '3'."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return str(runs[0][0])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"
