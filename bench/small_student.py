"""A T5 v1.1 small trained on made-up support tickets, in some minutes on 2 cores: what bench/exports.py and bench/serving.py ask.

    python bench/small_student.py FOLDER VOCABULARY

Becomes FOLDER/run, with its data in FOLDER/data: a table is prepared and the student trained from scratch, as anyone would from Python.
VOCABULARY is T5's SentencePiece model. A ticket has 20 to 100 tokens; words of its queue are in it, and, in one of five, a word of another
queue.
"""

import argparse
import csv
import os
import random
from pathlib import Path

import stepdistill_jax

QUEUES = {
    "billing": "invoice refund charged payment receipt card price",
    "hardware": "printer screen keyboard laptop cable battery fan",
    "network": "wifi vpn router firewall connection dns proxy",
    "account": "password login locked username token reset profile",
    "travel": "flight hotel visa train booking luggage airport",
}
_WORDS = (
    "hello the since yesterday morning my team cannot work and we have tried again please help it shows a message on floor three "
    "every time after lunch thank you kind regards this is urgent for the customer who waits in the meeting room near the window"
)
_SPLITS = {"train": range(4_000), "validation": range(10_000, 12_000), "test": range(12_000, 12_500)}


def ticket(number: int) -> dict[str, str]:
    """A ticket and its queue; the same for the same number."""
    rng = random.Random(number)
    queue, other = rng.sample(sorted(QUEUES), 2)
    words = rng.choices(_WORDS.split(), k=rng.randint(15, 70))
    hints = rng.choices(QUEUES[queue].split(), k=3)
    if number % 5 == 0:
        hints += rng.choices(QUEUES[other].split(), k=1)
    for hint in hints:
        words.insert(rng.randrange(len(words)), hint)
    return {"text": " ".join(words), "queue": queue}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("vocabulary", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    tables = {split: _table(args.folder / f"{split}.csv", numbers) for split, numbers in _SPLITS.items()}
    data_dir = args.folder / "data"
    stepdistill_jax.prepare(
        tables.pop("train"), name="tickets", inputs="text", label="queue", data_dir=data_dir, **tables
    )
    os.environ["STEPDISTILL_VOCABULARY"] = str(args.vocabulary)
    stepdistill_jax.train(
        "tickets",
        student="t5_1_1_small",
        begin="scratch",
        method="fine_tuning",
        steps=200,
        eval_period=200,
        batch_size=8,
        learning_rate=0.003,
        bindings=("DROPOUT_RATE = 0.0", "network.T5Config.dtype = 'float32'"),
        output=args.folder / "run",
        data_dir=data_dir,
    )


def _table(file: Path, numbers: range) -> Path:
    with file.open("w", newline="") as lines:
        table = csv.DictWriter(lines, ["text", "queue"])
        table.writeheader()
        table.writerows(map(ticket, numbers))
    return file


if __name__ == "__main__":
    main()
