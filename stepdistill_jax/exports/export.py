"""A run's student, written for other programs, with all that it needs beside its weights, and checked before it is there.

OUTPUT/…                 the weights, as the format has them
OUTPUT/student.json, vocabulary/, calibration.json    as in a run: `Predictor(OUTPUT)` and `stepdistill serve OUTPUT` work
OUTPUT/export.json       format, quantization, step, checksums, what the check has found
OUTPUT/README.md         the model card
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from stepdistill_jax import __version__
from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.whole_files import new_folder
from stepdistill_jax.exports import checking, ctranslate2_folder, gguf_file, huggingface_folder
from stepdistill_jax.exports.model_card import model_card
from stepdistill_jax.interop.checkpoint_arrays import open_arrays
from stepdistill_jax.interop.decoder_only.decoder_checkpoint import decoder_checkpoint
from stepdistill_jax.interop.decoder_only.sizes import is_decoder_only
from stepdistill_jax.interop.gguf_files.writing import write_decoder_gguf
from stepdistill_jax.interop.huggingface_weights import open_weights
from stepdistill_jax.interop.lazy_array import check_finite
from stepdistill_jax.interop.t5.t5_checkpoint import t5_checkpoint
from stepdistill_jax.prediction import calibration, probe
from stepdistill_jax.prediction.description import (
    STUDENT,
    StudentDescription,
    read_description,
)
from stepdistill_jax.prediction.exported import (
    CARD,
    CTRANSLATE2,
    EXPORT,
    GGUF,
    HUGGINGFACE,
    checksums,
    read_export,
)
from stepdistill_jax.prediction.predictor import Predictor
from stepdistill_jax.prediction.vocabularies import open_vocabulary

FORMATS = (CTRANSLATE2, HUGGINGFACE, GGUF)
QUANTIZATIONS = {
    CTRANSLATE2: ctranslate2_folder.QUANTIZATIONS,
    HUGGINGFACE: huggingface_folder.QUANTIZATIONS,
    GGUF: gguf_file.QUANTIZATIONS,
}


@dataclasses.dataclass(frozen=True)
class Exported:
    """Attributes:
    folder: that was written.
    quantization: of the weights.
    num_bytes: of all files.
    check: None where there were no texts to check with, or the format is not for us to compute.
    """

    folder: Path
    quantization: str
    num_bytes: int
    check: checking.Check | None


def export(
    run: Path,
    output: Path,
    *,
    to: str,
    quantization: str | None = None,
    step: int | None = None,
    check_texts: int = 1000,
    least_agreement: float = 0.9,
    data_dir: str | os.PathLike[str] | None = None,
    verify: bool = True,
) -> Exported:
    """Writes OUTPUT, whole or not at all.

    Args:
      run: a run's folder.
      output: a folder that is not there yet.
      to: 'ctranslate2', 'huggingface' or 'gguf'.
      quantization: one of the format's; default its first.
      step: of the checkpoint, default the best that the run keeps, else the newest.
      check_texts: validation texts that run and export are compared on, at most.
      least_agreement: share of the same labels below which nothing is written.
      data_dir: where prepared data are, if the run has no texts of its validation split itself.
      verify: whether the checkpoint's files are compared with its checksums first.

    Raises:
      FileNotFoundError, FileExistsError: no such run or checkpoint, or OUTPUT is there.
      ValueError: for a format or quantization that there is not, parameters that are NaN or infinite, or an export that answers
        otherwise than the student.
    """
    quantization = _check_settings(to, quantization, check_texts, least_agreement)
    description = read_description(run)
    if read_export(run) is not None:
        raise ValueError(f"{run} is an export itself; export the run that it was made of.")
    found = checkpoint_folders.find_step(run, step)
    texts = checking.validation_texts(run, description, most=check_texts, data_dir=data_dir)
    with new_folder(output) as folder:
        _carry(run, folder, description, found)
        write = {CTRANSLATE2: _to_ctranslate2, HUGGINGFACE: _to_huggingface, GGUF: _to_gguf}[to]
        write(run / checkpoint_folders.name_of(found), folder, description, quantization, verify)
        said = {
            "format": to,
            "quantization": quantization,
            "step": found,
            "stepdistill": __version__,
            "files": checksums(folder),
        }
        _write_json(folder / EXPORT, said)
        check = None
        if texts and to != GGUF:
            check = checking.compare(Predictor(run, step=found, verify=False), Predictor(folder), texts)
            if check.agreement < least_agreement:
                raise ValueError(
                    f"{output} is not written: {check.text}. Below {100 * least_agreement:g} % the same, an export is not the student; "
                    f"another --quantization may be, or a lower --least_agreement accepts it."
                )
        if to == CTRANSLATE2:
            said["probe"] = probe.measured(
                Predictor(folder), texts or description.choices or [description.task]
            )
        _write_json(folder / EXPORT, said | {"check": dataclasses.asdict(check) if check else None})
        card = model_card(run, folder, description, to=to, quantization=quantization, step=found, check=check)
        (folder / CARD).write_text(card, encoding="utf-8")
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Exported(output, quantization, num_bytes, check)


def _check_settings(to: str, quantization: str | None, check_texts: int, least_agreement: float) -> str:
    if to not in FORMATS:
        raise ValueError(f"--to={to}; use one of {', '.join(FORMATS)}.")
    known: Sequence[str] = QUANTIZATIONS[to]
    if quantization not in (None, *known):
        raise ValueError(f"--quantization={quantization}: {to} is written as {' or '.join(known)}.")
    if check_texts < 1:
        raise ValueError(f"--check_texts={check_texts}; use 1 or more.")
    if not 0 <= least_agreement <= 1:
        raise ValueError(f"--least_agreement={least_agreement}; use a share, 0 to 1.")
    return quantization or known[0]


def _carry(run: Path, folder: Path, description: StudentDescription, step: int) -> None:
    """Copies what a student is besides its weights."""
    shutil.copyfile(run / STUDENT, folder / STUDENT)
    if description.vocabulary.file is not None:
        place = folder / description.vocabulary.file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / description.vocabulary.file, place)
    calibrated = calibration.read_calibration(run)
    if calibrated is not None and calibrated.step == step:
        calibration.write_calibration(folder, calibrated)


Write = Callable[[Path, Path, StudentDescription, str, bool], None]


def _to_ctranslate2(
    checkpoint: Path, folder: Path, description: StudentDescription, quantization: str, verify: bool
) -> None:
    if description.is_decoder_only:
        raise ValueError(
            "CTranslate2 is given T5s alone here; export a decoder-only student --to huggingface or gguf."
        )
    opened = open_arrays(checkpoint, verify=verify)
    check_finite(opened.arrays, source=checkpoint)
    model = t5_checkpoint(opened)
    vocabulary = open_vocabulary(folder, description.vocabulary)
    ctranslate2_folder.write_ctranslate2(
        model,
        folder,
        tokens=ctranslate2_folder.names_of_ids(vocabulary.pieces(), model.sizes.vocab_size),
        eos_id=vocabulary.eos_id,
        unk_id=vocabulary.unk_id,
        quantization=quantization,
    )


def _to_huggingface(
    checkpoint: Path, folder: Path, description: StudentDescription, quantization: str, verify: bool
) -> None:
    huggingface_folder.write_huggingface(
        checkpoint, folder, description=description, dtype=quantization, verify=verify
    )
    check_finite(open_weights(folder), source=checkpoint)


def _to_gguf(
    checkpoint: Path, folder: Path, description: StudentDescription, quantization: str, verify: bool
) -> None:
    opened = open_arrays(checkpoint, verify=verify)
    check_finite(opened.arrays, source=checkpoint)
    if is_decoder_only(opened.arrays):
        file = description.vocabulary.file
        model = decoder_checkpoint(opened, vocabulary=folder / file if file else None)
        write_decoder_gguf(
            model,
            folder / gguf_file.FILE,
            dtype=quantization,
            name=description.task,
            description=gguf_file.said_of_inputs(description),
        )
    else:
        gguf_file.write_gguf(t5_checkpoint(opened), folder, description=description, dtype=quantization)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
