"""Writes two variants of the embedded problems' worked solutions as teachers, to find out what in a rationale helps.

    python experiments/small/rationale_variants.py            # into ./data; or --data_dir DIR
    stepdistill sweep experiments/small/rationales.toml

Where the package is installed without a clone: python -m stepdistill_jax.experiments.small.rationale_variants.

`worked-last-sentence` is short; `worked-of-another` keeps words and length, but tells of another problem. Labels are gold.
"""

import argparse
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stepdistill_jax import datasets, teacher
from stepdistill_jax.launching import task_modules

DATASET = "wordproblems"


def last_sentences(rationales: Sequence[str]) -> list[str]:
    """Of each its last sentence: the step that gives the answer."""
    return [re.split(r"(?<=\.) ", rationale)[-1] for rationale in rationales]


def of_another(rationales: Sequence[str]) -> list[str]:
    """The same rationales, each at another problem's place, drawn with a fixed seed."""
    places = list(range(len(rationales)))
    random.Random(0).shuffle(places)
    moved = list(rationales)
    for place, following in zip(places, places[1:] + places[:1], strict=True):
        moved[following] = rationales[place]
    return moved


class Variant:
    """Answers with the worked solutions after `change`, and with the gold label."""

    def __init__(self, name: str, change: Callable[[Sequence[str]], list[str]]):
        self.name = name
        self._change = change

    def complete(self, examples: Sequence[datasets.Example]) -> Iterator[teacher.Completion]:
        marker = datasets.get(DATASET).completion.answer_marker
        rationales = self._change([example.explanation for example in examples])
        for example, rationale in zip(examples, rationales, strict=True):
            yield teacher.Completion(
                text=f"{rationale} {marker} {example.label}",
                finish_reason="stop",
                parsed=teacher.ParsedCompletion(rationale, example.label),
            )

    def sources(self) -> dict[str, str]:
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, default=None, metavar="DIR")
    data_dir = datasets.data_dir(parser.parse_args().data_dir)
    task_modules.load_tasks()
    datasets.prepare(DATASET, data_dir=data_dir)
    for variant in (
        Variant("worked-last-sentence", last_sentences),
        Variant("worked-of-another", of_another),
    ):
        teacher.teach(DATASET, teacher=variant, data_dir=data_dir)


if __name__ == "__main__":
    main()
