"""What computes for a student's folder: a run's checkpoint, or the form that it was exported in.

    EXPORT/export.json    {"format": "ctranslate2", "quantization": "int8", "step": 1000, "files": {"model.bin": "<sha256>", …}, …}

Each form is imported when it is met: an export for CTranslate2 runs without JAX.
"""

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.whole_files import file_sha256
from stepdistill_jax.prediction.description import STUDENT, StudentDescription
from stepdistill_jax.prediction.vocabularies import Vocabulary

if TYPE_CHECKING:
    from stepdistill_jax.prediction.portable import Network

EXPORT, CARD = "export.json", "README.md"
CTRANSLATE2, HUGGINGFACE, GGUF = "ctranslate2", "huggingface", "gguf"

Tokens = Sequence[int]


@dataclasses.dataclass(frozen=True)
class Export:
    """Attributes:
    format: 'ctranslate2', 'huggingface' or 'gguf'.
    step: of the checkpoint that it was made of.
    files: name -> sha256, of all that a student is made of; {} of an export by an earlier version.
    probe: texts and their log-probabilities where it was exported (`probe`); {} where it has none.
    """

    format: str
    step: int
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    probe: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_export(folder: Path) -> Export | None:
    """What FOLDER/export.json says; None for a run's folder.

    Raises:
      ValueError: if it is damaged.
    """
    path = folder / EXPORT
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        files, probe = (dict(said.get(name) or {}) for name in ("files", "probe"))
        if probe and not (probe["texts"] and probe["log_probs"]):
            raise ValueError("an empty probe")
        return Export(str(said["format"]), int(said["step"]), files, probe)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); copy the folder again.") from error


def checksums(folder: Path) -> dict[str, str]:
    """Name -> sha256 of an export's files, but for its card and export.json itself."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return {name: file_sha256(folder / name) for name in names if name not in (EXPORT, CARD)}


def check_files(folder: Path, export: Export) -> None:
    """Compares an export's files with the checksums that it was written with.

    Raises:
      ValueError: names every file that is missing or another.
    """
    if not export.files:
        say_once(f"{folder}: {EXPORT} has no checksums, as those of earlier versions: nothing was compared")
    problems = []
    for name, saved in export.files.items():
        if not (folder / name).is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(folder / name) != saved:
            problems.append(f"{name} is another")
    if problems:
        raise ValueError(
            f"{folder} is not as it was exported: {', '.join(problems)}. Copy or export it again; where you have changed it "
            "yourself, --no_verify takes it as it is."
        )


def open_network(
    folder: Path,
    export: Export,
    description: StudentDescription,
    vocabulary: Vocabulary,
    *,
    choices: Sequence[Tokens],
    max_input_tokens: int,
    max_target_tokens: int,
    batch_tokens: int,
) -> "Network":
    """An export's network, its parameters read.

    Raises:
      ValueError: if this format is not for us to compute, its files are damaged, or what reads them is not installed.
    """
    if export.format == CTRANSLATE2:
        from stepdistill_jax.prediction.ctranslate2_network import CTranslate2Network

        return CTranslate2Network(
            folder,
            choices=choices,
            max_target_tokens=max_target_tokens,
            batch_tokens=batch_tokens,
            eos_id=vocabulary.eos_id,
        )
    if export.format == HUGGINGFACE:
        from stepdistill_jax.interop import convert_from_huggingface

        with tempfile.TemporaryDirectory(prefix="stepdistill-") as temporary:
            words = description.vocabulary
            converted = convert_from_huggingface(
                folder, Path(temporary) / "student", step=export.step, start=words.start, end=words.end
            )
            return open_checkpoint(
                folder,
                converted.checkpoint,
                description,
                vocabulary,
                choices=choices,
                max_input_tokens=max_input_tokens,
                max_target_tokens=max_target_tokens,
                batch_tokens=batch_tokens,
            )
    raise ValueError(
        f"{folder} is an export of format {export.format!r}, which other programs read; predict from the run, or export it "
        f"--to {CTRANSLATE2}."
    )


def open_checkpoint(
    folder: Path,
    checkpoint: Path,
    description: StudentDescription,
    vocabulary: Vocabulary,
    **options: Any,
) -> "Network":
    """A checkpoint's network in JAX; `options` are those of `CheckpointNetwork`.

    Raises:
      ValueError: if the description, that of `folder`, is not of our network, or the checkpoint is damaged.
    """
    from stepdistill_jax.engine.hardware.present_devices import check_devices
    from stepdistill_jax.engine.model.llama import LlamaConfig
    from stepdistill_jax.engine.model.network import T5Config
    from stepdistill_jax.prediction.checkpoint_network import CheckpointNetwork

    check_devices()
    config_cls = LlamaConfig if description.is_decoder_only else T5Config
    try:
        config = config_cls(**description.network)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / STUDENT}: no network of ours ({error}); copy the folder again."
        ) from error
    return CheckpointNetwork(config, checkpoint, vocabulary, **options)
