"""What the gin file beside a checkpoint says that its parameters do not: activations, dropout, vocabulary, beginnings."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.gin_bindings import Reference, read_bindings
from stepdistill_jax.base.locations import data_dir
from stepdistill_jax.datasets.vocabulary_files import t5_vocabulary_path
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.interop.json_files import read_json

NETWORK_GIN = "model.gin"  # that `convert` writes beside a checkpoint
_STUDENT, _DECODER = "student.json", "LlamaConfig."
BESIDE = "huggingface"  # likewise: the folder with what Hugging Face's had besides the weights


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """Attributes:
    mlp_activations: None where no file says.
    vocabulary: the run's SentencePiece model or tokenizer.json, if it can be told and is there.
    huggingface: the folder with config.json and tokenizer that `convert` once left, if there is one.
    decoder_settings: fields of `LlamaConfig`, of a decoder-only model.
    text_tokens: that start and end a text of its tokenizer.json; (None, None) where it has none.
    is_told: whether there is any such file at all.
    """

    mlp_activations: tuple[str, ...] | None = None
    dropout_rate: float = 0.1
    vocabulary: Path | None = None
    huggingface: Path | None = None
    decoder_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    text_tokens: tuple[str | None, str | None] = (None, None)
    is_told: bool = False


def read_run_facts(checkpoint: Path) -> RunFacts:
    """Reads config.gin (a run's) or model.gin (a converted model's) in the checkpoint's parent folder; and student.json."""
    folder = checkpoint.parent
    bound: Mapping[str, Any] = {}
    for name in (NETWORK_GIN, "config.gin"):
        if (folder / name).is_file():
            bound = read_bindings(folder / name)
    student = read_json(folder / _STUDENT) if (folder / _STUDENT).is_file() else {}
    words = student.get("vocabulary") or {}
    settings = {
        name.removeprefix(_DECODER): value for name, value in bound.items() if name.startswith(_DECODER)
    }
    network = student.get("network") or {}
    if not settings and "num_kv_heads" in network:
        settings = network
    begun_with = bound.get("RestoreCheckpointConfig.path")
    beside = [folder / BESIDE]
    if isinstance(begun_with, str):
        beside.append(Path(begun_with).parent / BESIDE)
    # A run that was carried elsewhere has student.json alone.
    activations, dropout_rate = (
        network.get(name, bound.get(f"T5Config.{name}")) for name in ("mlp_activations", "dropout_rate")
    )
    return RunFacts(
        mlp_activations=tuple(activations) if isinstance(activations, tuple | list) else None,
        dropout_rate=float(dropout_rate) if isinstance(dropout_rate, int | float) else 0.1,
        vocabulary=_vocabulary(bound, folder, words.get("file")),
        decoder_settings=settings,
        text_tokens=(
            bound.get("vocabulary_choice.start") or words.get("start"),
            bound.get("vocabulary_choice.end") or words.get("end"),
        ),
        is_told=bool(bound or student),
        huggingface=next((path for path in beside if (path / "config.json").is_file()), None),
    )


def _vocabulary(bound: Mapping[str, Any], folder: Path, own: str | None) -> Path | None:
    """Where it was when it was trained with, else the run's own copy."""
    if (found := _vocabulary_of_gin(bound)) is not None:
        return found
    return folder / own if own and (folder / own).is_file() else None


def _vocabulary_of_gin(bound: Mapping[str, Any]) -> Path | None:
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
