"""The bench's batches hold every example, and a contender answers (at toy size)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def batches(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import batches

    return batches


def make_examples(count, seed):
    rng = np.random.default_rng(seed)
    return [
        [[*rng.integers(2, 99, rng.integers(3, 20)).tolist(), 1] for _ in ("inputs", "targets")]
        for _ in range(count)
    ]


@pytest.fixture
def examples():
    return {"label": make_examples(40, 0), "rationale": make_examples(40, 1)}


def _segments(batch):
    """The examples of a packed batch, read back by segment ids."""
    found = []
    for row in range(len(batch["encoder_input_tokens"])):
        for segment in range(1, batch["encoder_segment_ids"][row].max() + 1):
            inputs = batch["encoder_input_tokens"][row][batch["encoder_segment_ids"][row] == segment]
            here = batch["decoder_segment_ids"][row] == segment
            targets = batch["decoder_target_tokens"][row][here]
            assert batch["decoder_input_tokens"][row][here].tolist() == [0, *targets[:-1].tolist()]
            found.append([inputs.tolist(), targets.tolist()])
    return found


def test_packed_batches_hold_each_example_once_and_nothing_else(batches, examples):
    made = batches.training_batches(examples, packed=True, num_examples=8, num_rows=2)
    found = [example for batch in made for example in _segments(batch)]
    mixture = batches.alternating(examples)
    assert len({json.dumps(example) for example in found}) == len(found) > 60
    assert all(example in mixture for example in found)
    assert len({batch["encoder_input_tokens"].shape for batch in made}) == 1


def test_only_real_tokens_are_counted(batches, examples):
    batch = batches.padded(examples["label"][:3], (30, 30))
    assert batches.num_tokens(batch) == sum(len(i) + len(t) for i, t in examples["label"][:3])
    assert batch["decoder_loss_weights"].sum() == sum(len(t) for _, t in examples["label"][:3])


@pytest.mark.slow
def test_our_contender_trains_and_decodes(batches, examples, tmp_path):
    data = tmp_path / "examples.json"
    data.write_text(json.dumps(examples), encoding="utf-8")
    command = [sys.executable, str(BENCH / "contender_engine.py"), "--data", str(data), "--size", "tiny"]
    done = subprocess.run(
        [*command, "--num_rows", "2", "--num_decoded", "10", "--decode_batch", "8"],
        input="train 1\ndecode\nmemory\n",
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": ""},  # one device, as the bench has, not the tests' eight
        timeout=300,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert answers[0] == {"event": "first_step"}
    assert answers[1]["tokens"] > 0
    assert answers[2]["examples"] == 10
    assert answers[3]["peak_bytes"] > 0


def test_more_examples_than_there_are_is_said_with_the_most_there_can_be(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    import compare

    there = {"few_label": 3, "many_label": 9, "few_rationale": 3, "many_rationale": 9}

    def token_ids(task, count):
        return [[[1], [1]]] * min(count, there[task])

    names, path = ("few", "many"), tmp_path / "examples.json"
    with pytest.raises(
        ValueError, match=r"^--num_examples=8: few_label has 3 training examples.*at most 6\.$"
    ):
        compare._write(path, names, token_ids, 8, "made up")
    assert compare._write(path, names, token_ids, 6, "made up") == "made up"
    assert len(json.loads(path.read_text())["rationale"]) == 6
