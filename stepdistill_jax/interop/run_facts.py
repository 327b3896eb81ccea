"""What the gin file beside a checkpoint says that its parameters do not: activations, dropout, vocabulary, beginnings."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.locations import data_dir
from stepdistill_jax.datasets.vocabulary_files import t5_vocabulary_path
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.interop.model_gin import Reference, read_bindings

NETWORK_GIN = "model.gin"  # that `convert` writes beside a checkpoint
BESIDE = "huggingface"  # likewise: the folder with what Hugging Face's had besides the weights


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """Attributes:
    mlp_activations: None where no file says.
    vocabulary: the run's SentencePiece model, if it can be told and is there.
    huggingface: the folder with config.json and tokenizer that `convert` once left, if there is one.
    """

    mlp_activations: tuple[str, ...] | None = None
    dropout_rate: float = 0.1
    vocabulary: Path | None = None
    huggingface: Path | None = None


def read_run_facts(checkpoint: Path) -> RunFacts:
    """Reads config.gin (a run's) or model.gin (a converted model's) in the checkpoint's parent folder."""
    folder = checkpoint.parent
    bound: Mapping[str, Any] = {}
    for name in (NETWORK_GIN, "config.gin"):
        if (folder / name).is_file():
            bound = read_bindings(folder / name)
    begun_with = bound.get("RestoreCheckpointConfig.path")
    beside = [folder / BESIDE]
    if isinstance(begun_with, str):
        beside.append(Path(begun_with).parent / BESIDE)
    activations, dropout_rate = bound.get("T5Config.mlp_activations"), bound.get("T5Config.dropout_rate")
    return RunFacts(
        mlp_activations=tuple(activations) if isinstance(activations, tuple | list) else None,
        dropout_rate=float(dropout_rate) if isinstance(dropout_rate, int | float) else 0.1,
        vocabulary=_vocabulary(bound),
        huggingface=next((path for path in beside if (path / "config.json").is_file()), None),
    )


def _vocabulary(bound: Mapping[str, Any]) -> Path | None:
    vocabulary = bound.get("VOCABULARY")
    name = vocabulary.name.split(".")[-1].removesuffix("()") if isinstance(vocabulary, Reference) else ""
    file = {
        "embedded_vocabulary": VOCABULARY_PATH,
        "vocabulary": bound.get("vocabulary_choice.file")
        or os.environ.get("STEPDISTILL_VOCABULARY")
        or t5_vocabulary_path(data_dir()),
        "SentencePieceVocabulary": bound.get("SentencePieceVocabulary.sentencepiece_model_file"),
    }.get(name)
    return Path(file) if isinstance(file, str | Path) and Path(file).is_file() else None
