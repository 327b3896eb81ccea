"""A decoder-only student's train step against transformers' (torch) on the same batch, as ratios measured in one run.

    HF_PYTHON=VENV/bin/python python bench/decoder_only.py

SmolLM2 135M, random weights, float32, AdamW, on the CPU. Examples have the lengths of SVAMP's: a question of about 50 tokens, half of
them an equation of about 15, half a rationale of about 60. Both get the same rows, padded to the longest of all; ours also gets them
packed, as it trains. Loss and gradient are on the targets alone. Rates count tokens that are not padding. The two take turns.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SIZES = {
    "135m": {"emb_dim": 576, "num_heads": 9, "num_kv_heads": 3, "num_layers": 30, "head_dim": 64, "mlp_dim": 1536, "vocab_size": 49152},
    "tiny": {"emb_dim": 32, "num_heads": 4, "num_kv_heads": 2, "num_layers": 2, "head_dim": 8, "mlp_dim": 64, "vocab_size": 512},
}  # fmt: skip
NUM_BATCHES = 2
PACKED_LENGTH = 256


def write_batches(path: Path, *, rows: int, vocab_size: int) -> None:
    """Padded batches 'padded/N/…' of so many examples, and the same examples packed, 'packed/N/…'."""
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(NUM_BATCHES):
        examples = []
        for row in range(rows):
            num_inputs = int(rng.integers(35, 75))
            num_targets = int(rng.integers(10, 20) if row % 2 else rng.integers(40, 90))
            examples.append(
                (rng.integers(1, vocab_size, num_inputs), rng.integers(1, vocab_size, num_targets))
            )
        batches.append(examples)
    longest = max(len(inputs) + len(targets) for examples in batches for inputs, targets in examples)
    most_rows = max(len(_packed(examples)) for examples in batches)
    arrays = {}
    for number, examples in enumerate(batches):
        packed = _packed(examples)
        packed += [[]] * (most_rows - len(packed))
        kinds = {"padded": ([[example] for example in examples], longest), "packed": (packed, PACKED_LENGTH)}
        for kind, (placed, length) in kinds.items():
            for name, values in _features(placed, length).items():
                arrays[f"{kind}/{number}/{name}"] = values
    np.savez(path, **arrays)


def _packed(examples: list) -> list[list]:
    """First fit."""
    rows: list[list] = []
    for example in examples:
        fits = [row for row in rows if sum(len(a) + len(b) for a, b in [*row, example]) <= PACKED_LENGTH]
        (fits[0] if fits else rows.append([]) or rows[-1]).append(example)
    return rows


def _features(rows: list[list], length: int) -> dict[str, np.ndarray]:
    """SeqIO's features of a language model, int32 [rows, length]."""
    names = ("target_tokens", "input_tokens", "loss_weights", "segment_ids", "positions")
    features = {f"decoder_{name}": np.zeros((len(rows), length), np.int32) for name in names}
    for number, row in enumerate(rows):
        start = 0
        for segment, (inputs, targets) in enumerate(row, start=1):
            tokens = np.concatenate([inputs, targets])
            here = slice(start, start + len(tokens))
            features["decoder_target_tokens"][number, here] = tokens
            features["decoder_input_tokens"][number, here] = [0, *tokens[:-1]]
            features["decoder_loss_weights"][number, start + len(inputs) : here.stop] = 1
            features["decoder_segment_ids"][number, here] = segment
            features["decoder_positions"][number, here] = np.arange(len(tokens))
            start = here.stop
    return features


def read_batches(path: str, kind: str) -> list[dict[str, np.ndarray]]:
    arrays = np.load(path)
    names = {name.split("/")[2] for name in arrays}
    return [{name: arrays[f"{kind}/{number}/{name}"] for name in names} for number in range(NUM_BATCHES)]


def ours(path: str, kind: str, size: str):
    """step() -> tokens."""
    import jax
    import optax

    from stepdistill_jax.engine.t5x_names import alias

    alias.install()
    import seqio

    from stepdistill_jax.engine.model import llama, models
    from stepdistill_jax.engine.optim import optimizers
    from stepdistill_jax.engine.partition import partitioning
    from stepdistill_jax.engine.step import trainer
    from stepdistill_jax.engine.step.initialize import TrainStateInitializer

    batches = read_batches(path, kind)
    if kind == "padded":  # one example a row
        for batch in batches:
            del batch["decoder_segment_ids"], batch["decoder_positions"]
    sizes = SIZES[size]
    words = seqio.PassThroughVocabulary(size=sizes["vocab_size"], eos_id=1)
    model = models.DecoderOnlyModel(
        llama.Llama(llama.LlamaConfig(**sizes)),
        words,
        optimizers.adamw(weight_decay=0.0),
        loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
    )
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    initializer = TrainStateInitializer(
        model.optimizer_def,
        model.get_initial_variables,
        {name: rows.shape for name, rows in batches[0].items()},
        partitioner,
        {name: rows.dtype for name, rows in batches[0].items()},
    )
    state = initializer.from_scratch(jax.random.key(0))
    train_step = trainer.Trainer(
        model, initializer.train_state_axes, partitioner, jax.random.key(1), optax.constant_schedule(1e-4)
    ).train_step
    batches = itertools.cycle(batches)

    def step() -> int:
        nonlocal state
        batch = next(batches)
        state, _, _ = train_step(state, partitioner.global_batch(batch))
        jax.block_until_ready(state)
        return int(np.count_nonzero(batch["decoder_target_tokens"]))

    return step


def transformers_step(path: str, kind: str, size: str):
    """step() -> tokens."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = SIZES[size]
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=sizes["vocab_size"],
            hidden_size=sizes["emb_dim"],
            intermediate_size=sizes["mlp_dim"],
            num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"],
            num_key_value_heads=sizes["num_kv_heads"],
            tie_word_embeddings=True,
        )
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    batches = itertools.cycle(read_batches(path, kind))

    def step() -> int:
        batch = next(batches)
        tokens = torch.from_numpy(batch["decoder_target_tokens"]).long()
        labels = tokens.masked_fill(torch.from_numpy(batch["decoder_loss_weights"]) == 0, -100)
        model(input_ids=tokens, attention_mask=(tokens != 0).long(), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return int((tokens != 0).sum())

    return step


ROLES = {"ours": ours, "transformers": transformers_step}


def serve(role: str, path: str, kind: str, size: str) -> None:
    """Answers 'train N', a JSON object a line, until standard input ends."""
    step = ROLES[role](path, kind, size)
    for _ in range(2):  # the second step may still compile, for donated arguments
        step()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        tokens = sum(step() for _ in range(int(line.split()[1])))
        print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - start}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=16, help="examples of a batch")
    parser.add_argument("--size", choices=SIZES, default="135m")
    parser.add_argument(
        "--hf_python", default=os.environ.get("HF_PYTHON"), help="a Python with torch and transformers"
    )
    parser.add_argument("--serve", nargs=3, metavar=("ROLE", "FILE", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(*args.serve, args.size)
        return
    from compare import Child

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batches.npz"
        write_batches(path, rows=args.rows, vocab_size=SIZES[args.size]["vocab_size"])
        contenders = {
            "ours": (sys.executable, "ours", "padded"),
            "ours, packed": (sys.executable, "ours", "packed"),
        }
        if args.hf_python:
            contenders["transformers"] = (args.hf_python, "transformers", "padded")
        children = []
        for name, (python, role, kind) in contenders.items():
            child = Child(
                name,
                [python, __file__, "--size", args.size, "--serve", role, str(path), kind],
                python_path=str(HERE.parent) if role == "ours" else "",
            )
            child.ready()
            children.append(child)
        rates: dict[str, list[float]] = {child.name: [] for child in children}
        for _ in range(args.rounds):
            for child in children:
                answer = child.ask(f"train {NUM_BATCHES}")
                rates[child.name].append(answer["tokens"] / answer["seconds"])
        for child in children:
            child.close()
    print("tokens/s, median over rounds")
    for name, values in rates.items():
        line = f"  {name:14s} {statistics.median(values):8.0f}"
        if name != "transformers" and "transformers" in rates:
            ratios = [a / b for a, b in zip(values, rates["transformers"], strict=True)]
            line += f"   {statistics.median(ratios):.2f} times transformers (from {min(ratios):.2f} to {max(ratios):.2f})"
        print(line)


if __name__ == "__main__":
    main()
