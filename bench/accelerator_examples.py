"""Token ids for bench/accelerator.py: written where the data is, made up, or read from a file and checked."""

import json
import math
import os
from pathlib import Path

import batches
import compare
import numpy as np
from accelerator_step import NUM_BATCHES

# Lengths in tokens without EOS, uniform between both: their means are those of SVAMP's and CQA's training examples with PaLM-540B's
# rationales in T5's vocabulary (inputs 48, labels 7, rationales 35).
MADE_UP_LENGTHS = {"inputs": (32, 62), "label": (2, 10), "rationale": (14, 54)}
_FIRST_ID = 3  # behind padding, EOS and what is unknown


def write(path: Path, *, data_dir: Path | None, num_examples: int) -> str:
    """Writes SVAMP's and CQA's examples; returns a line that says so.

    Args:
      data_dir: where they are prepared, default ./data.
      num_examples: of each task, labels and rationales.

    Raises:
      ValueError: if they are not prepared, or fewer.
    """
    from stepdistill_jax import datasets

    if data_dir is not None:
        os.environ["STEPDISTILL_DATA_DIR"] = str(data_dir)
    for name in ("svamp", "cqa"):
        if not (folder := datasets.data_dir() / name / "rationales").is_dir():
            raise ValueError(
                f"--write_examples: {folder} is not there; run `stepdistill prepare {name}` and `stepdistill teach {name} "
                "--teacher recorded`, or name the folder by --data_dir."
            )
    source = compare.write_examples(path, num_examples=num_examples)
    return f"{path}: {num_examples} labels and {num_examples} rationales of {source}"


def made_up(path: Path, *, num_examples: int, lengths: tuple[int, int], vocab_size: int) -> None:
    """Writes random ids with `MADE_UP_LENGTHS`, always the same ones; no longer than a row is."""
    rng = np.random.default_rng(0)

    def ids(kind: str, most: int) -> list[int]:
        shortest, longest = MADE_UP_LENGTHS[kind]
        length = min(int(rng.integers(shortest, longest + 1)), most - 1)
        return [*rng.integers(_FIRST_ID, vocab_size, length).tolist(), 1]

    examples = {
        kind: [[ids("inputs", lengths[0]), ids(kind, lengths[1])] for _ in range(num_examples)]
        for kind in ("label", "rationale")
    }
    path.write_text(json.dumps(examples), encoding="utf-8")


def enough(*, rows: int, inputs: int, labels: int, padded_examples: int) -> int:
    """Examples of each kind so that no batch sees one twice."""
    packed = math.ceil(NUM_BATCHES * rows * inputs / MADE_UP_LENGTHS["inputs"][0] / 2)
    return max(packed, labels, NUM_BATCHES * padded_examples // 2)


def check(
    path: Path, *, lengths: tuple[int, int], labels: int, padded_examples: int, vocab_size: int
) -> None:
    """Checks that contenders can be given these examples.

    Args:
      lengths: of rows, inputs and targets.
      padded_examples: of a batch that is not packed; 0 where there is none.

    Raises:
      ValueError: if they cannot; names the file and what is wrong with it.
    """
    try:
        examples = batches.load(str(path))
        kinds = {kind: [(list(i), list(t)) for i, t in examples[kind]] for kind in ("label", "rationale")}
        largest = max(max(*i, *t) for of_kind in kinds.values() for i, t in of_kind)
    except FileNotFoundError:
        raise ValueError(f"--examples={path} is not there; make it by --write_examples.") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"--examples={path} does not hold {{'label': [[inputs, targets], …], 'rationale': …}} of token ids "
            f"({type(error).__name__}: {error}); make it by --write_examples."
        ) from error
    if largest >= vocab_size:
        raise ValueError(f"--examples={path} has the token id {largest}; the models know {vocab_size}.")
    for side, flag in enumerate(("--inputs", "--targets")):
        longest = batches.longest([*kinds["label"], *kinds["rationale"]])[side]
        if longest > lengths[side]:
            raise ValueError(
                f"{flag}={lengths[side]}: {path} has {flag[2:]} of {longest} tokens; use that or more."
            )
    if (there := len(kinds["label"])) < labels:
        raise ValueError(f"--labels={labels}: {path} has {there} of them.")
    if (there := min(map(len, kinds.values()))) < padded_examples // 2:
        raise ValueError(
            f"--padded_examples={padded_examples}: {path} has {there} of each kind; use at most {2 * there}."
        )
