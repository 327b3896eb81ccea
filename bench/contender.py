"""What a contender's process does: takes its first step, then trains and decodes when told to on standard input."""

import argparse
import json
import resource
import sys
import time
from abc import ABC, abstractmethod

# T5 v1.1's (gin/models/t5_1_1_small.gin and on), and a model that a test can afford.
SIZES = {
    "tiny": {"emb_dim": 32, "num_heads": 2, "num_layers": 2, "head_dim": 16, "mlp_dim": 64, "vocab_size": 32128},
    "small": {"emb_dim": 512, "num_heads": 6, "num_layers": 8, "head_dim": 64, "mlp_dim": 1024, "vocab_size": 32128},
    "base": {"emb_dim": 768, "num_heads": 12, "num_layers": 12, "head_dim": 64, "mlp_dim": 2048, "vocab_size": 32128},
    "large": {"emb_dim": 1024, "num_heads": 16, "num_layers": 24, "head_dim": 64, "mlp_dim": 2816, "vocab_size": 32128},
    "xl": {"emb_dim": 2048, "num_heads": 32, "num_layers": 24, "head_dim": 64, "mlp_dim": 5120, "vocab_size": 32128},
}  # fmt: skip
DROPOUT_RATE = 0.1
LEARNING_RATE = 1e-3
Z_LOSS = 1e-4


class Contender(ABC):
    """A model with its optimizer in some framework, float32 on the CPU."""

    @abstractmethod
    def train(self, num_steps: int) -> int:
        """Takes steps; returns their number of tokens that are not padding."""

    @abstractmethod
    def decode(self) -> int:
        """Decodes the labels of `num_decoded` examples greedily, to the full length; returns their number."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="token ids, by bench/compare.py")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rows", choices=("packed", "padded"), default="packed")
    parser.add_argument("--num_rows", type=int, default=5, help="rows of a packed batch")
    parser.add_argument(
        "--num_examples", type=int, default=32, help="of a padded batch, half of them rationales"
    )
    parser.add_argument("--num_decoded", type=int, default=512)
    parser.add_argument("--decode_batch", type=int, default=32)
    return parser.parse_args()


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def serve(contender: Contender) -> None:
    """Answers 'train N', 'decode' and 'memory', a JSON object a line, until standard input ends."""
    contender.train(1)
    say(event="first_step")
    for line in sys.stdin:
        command, *numbers = line.split()
        start = time.perf_counter()
        if command == "train":
            say(tokens=contender.train(int(numbers[0])), seconds=time.perf_counter() - start)
        elif command == "decode":
            say(examples=contender.decode(), seconds=time.perf_counter() - start)
        elif command == "memory":
            say(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        else:
            raise ValueError(f"unknown command {command!r}; use train, decode or memory.")
