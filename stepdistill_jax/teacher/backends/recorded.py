"""Recorded raw completions as a teacher: files `{train,valid,test}_CoT_N.json`, as the authors publish PaLM's.

Element `i` of a source split's files, concatenated in numeric order, belongs to row `i` of that split's published file.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stepdistill_jax.base.whole_files import file_sha256
from stepdistill_jax.teacher.answers.completions import Completion, Skipped

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Example

_FILE_PREFIX = {"train": "train", "validation": "valid", "valid": "valid", "test": "test"}


class RecordedTeacher:
    """Answers from FOLDER/<dataset>/teacher/<name>/. A source split without any file is skipped, and counted as such."""

    def __init__(self, folder: str | Path, *, dataset_name: str, name: str):
        self.name = name
        self._folder = Path(folder) / dataset_name / "teacher" / name
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"No recorded outputs in {self._folder}; it should hold train_CoT_0.json(.gz) and so on "
                f"(--from FOLDER is the folder that holds {dataset_name}/).{_nearby(self._folder)}"
            )
        self._files = _numbered_files(self._folder)
        if not self._files:
            raise FileNotFoundError(
                f"No file in {self._folder} is named like train_CoT_0.json or train_CoT_0.json.gz."
            )

    def complete(self, examples: Sequence["Example"]) -> Iterator[Completion | Skipped]:
        wanted: dict[str, set[int]] = {}
        for example in examples:
            wanted.setdefault(_prefix(example), set()).add(example.source_row)
        answers = {prefix: self._read(prefix, rows) for prefix, rows in wanted.items()}
        for example in examples:
            prefix = _prefix(example)
            if prefix not in self._files:
                yield Skipped(f"no {prefix}_CoT files")
            elif example.source_row < 0:
                yield Skipped("no recorded output")
            else:
                yield Completion(text=answers[prefix][example.source_row])

    def sources(self) -> dict[str, str]:
        files = [file for files in self._files.values() for file in files]
        return {file.relative_to(self._folder.parents[2]).as_posix(): file_sha256(file) for file in files}

    def _read(self, prefix: str, rows: set[int]) -> dict[int, str]:
        """The completions of `rows`; the others (e-SNLI has 549,367) are not kept."""
        kept: dict[int, str] = {}
        count = 0
        for file in self._files.get(prefix, ()):
            outputs = _read_list(file)
            kept.update((row, outputs[row - count]) for row in rows if count <= row < count + len(outputs))
            count += len(outputs)
        if prefix in self._files and rows and max(rows) >= count:
            raise ValueError(
                f"{self._folder}/{prefix}_CoT_*.json: {count:,} outputs, but row {max(rows):,} of the source file needs one; "
                f"add the missing files, so that output i belongs to row i."
            )
        return kept


def _prefix(example: "Example") -> str:
    try:
        return _FILE_PREFIX[example.source_split]
    except KeyError:
        raise ValueError(
            f"{example.example_id}: source split {example.source_split!r} has no recorded files; known are "
            f"{', '.join(sorted(_FILE_PREFIX))}."
        ) from None


def _numbered_files(folder: Path) -> dict[str, list[Path]]:
    """{'train': [train_CoT_0.json.gz, …]} in numeric order, without a gap."""
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(r"(train|valid|test)_CoT_(\d+)\.json(\.gz)?", file.name)
        if match is None:
            continue
        numbered = found.setdefault(match[1], {})
        number = int(match[2])
        if number in numbered:
            raise ValueError(f"{folder}: both {numbered[number].name} and {file.name}; keep one of them.")
        numbered[number] = file
    for prefix, numbered in found.items():
        missing = sorted(set(range(max(numbered) + 1)) - set(numbered))
        if missing:
            raise FileNotFoundError(
                f"{folder}: {prefix}_CoT_{missing[0]}.json is missing, but {prefix}_CoT_{max(numbered)} is there; "
                f"outputs are matched to rows by counting, so no number may be left out."
            )
    return {prefix: [numbered[number] for number in sorted(numbered)] for prefix, numbered in found.items()}


def _read_list(file: Path) -> list[str]:
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        outputs = json.loads(data)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not a readable JSON array ({error}); get the file again.") from error
    if not isinstance(outputs, list):
        raise ValueError(f"{file}: holds a JSON {type(outputs).__name__}; it should be one array of strings.")
    for index, output in enumerate(outputs):
        if not isinstance(output, str):
            raise ValueError(
                f"{file}: element {index} is {type(output).__name__} {str(output)[:40]!r}, not a string."
            )
    return outputs


def _nearby(folder: Path) -> str:
    """' There are: palm-540b.' for a wrong teacher's name, else nothing."""
    if not folder.parent.is_dir():
        return ""
    names = sorted(child.name for child in folder.parent.iterdir() if child.is_dir())
    return f" There are: {', '.join(names)}." if names else ""
