"""Rows of published files: from a folder, or downloaded from their public home."""

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base.whole_files import file_sha256
from stepdistill_jax.datasets.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Row:
    """A row and where it stands.

    Attributes:
      place: 'file:line' (or 'file, element n'), for messages.
      source_row: its number in the published file; -1 where the file says that it is not known.
    """

    place: str
    source_row: int
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """All rows of a dataset by published split, and the checksums of the files that they came from."""

    description: str
    rows: Mapping[str, Sequence[Row]]
    sha256: Mapping[str, str]


def read_source(dataset: Dataset, *, from_folder: Path | None, cache: Path) -> Source:
    """Reads a dataset: made by its `rows`, else from the folder, else from its public home.

    Args:
      from_folder: holds the files that `dataset.files` names, as they are or with '.gz'.
      cache: where downloads are kept.

    Raises:
      FileNotFoundError: names the file that is missing.
      ValueError: names file and line that cannot be read.
    """
    if dataset.rows is not None:
        rows = {
            split: [
                Row(f"{dataset.name}/{split}/{i}", i, values) for i, values in enumerate(dataset.rows(split))
            ]
            for split in ("train", "validation", "test")
        }
        return Source("made by stepdistill_jax", rows, {})
    if from_folder is not None:
        if not from_folder.is_dir():
            raise FileNotFoundError(f"--from {from_folder}: no such folder.")
        files = {split: _files(dataset, split, from_folder) for split in dataset.files}
        return _read(
            str(from_folder), {split: [(p, p.name) for p in paths] for split, paths in files.items()}
        )
    if not dataset.home:
        raise ValueError(f"{dataset.name} has no public home; give its files by --from FOLDER.")
    downloads = {
        split: [_downloaded(dataset, url, cache) for url in _listed(urls)]
        for split, urls in dataset.home.items()
    }
    source = _read(dataset.homepage or "its public home", downloads)
    for split, url in dataset.home_joins.items():
        joined = _read(url, {split: [_downloaded(dataset, url, cache)]})
        source = Source(
            source.description,
            {**source.rows, split: _join(source.rows[split], joined.rows[split], url)},
            {**source.sha256, **joined.sha256},
        )
    return source


def _downloaded(dataset: Dataset, url: str, cache: Path) -> tuple[Path, str]:
    sha256 = dataset.home_sha256.get(url.partition("#")[0])
    return download(url, cache, sha256=sha256), _name(url)


def _join(rows: Sequence[Row], others: Sequence[Row], url: str) -> list[Row]:
    """`rows` with what the row of the same 'id' among `others` says besides."""
    by_id = {other.values.get("id"): other.values for other in others}
    joined = []
    for row in rows:
        if row.values.get("id") not in by_id:
            raise ValueError(f"{row.place}: the id {row.values.get('id')!r} is not in {url}.")
        joined.append(dataclasses.replace(row, values={**by_id[row.values["id"]], **row.values}))
    return joined


def _files(dataset: Dataset, split: str, folder: Path) -> list[Path]:
    full = dataset.full_files.get(split)
    if full is not None and any((folder / name).exists() for name in (full, f"{full}.gz")):
        return [_find(folder, full)]
    return [_find(folder, name) for name in _listed(dataset.files[split])]


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise FileNotFoundError(f"--from {folder}: no {name} (nor {name}.gz) there.")


def download(url: str, cache: Path, *, sha256: str | None = None) -> Path:
    """The file behind a URL (what follows '#' is left out), downloaded once, with retries and a progress bar.

    Raises:
      ValueError: if it cannot be had, or is not the file of that sha256.
    """
    import pooch

    address = url.partition("#")[0]
    name = f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{address.rsplit('/', 1)[-1]}"
    pooch.get_logger().setLevel("WARNING")
    fetcher = pooch.create(
        path=cache,
        base_url="",
        registry={name: sha256 and f"sha256:{sha256}"},
        urls={name: address},
        retry_if_failed=3,
    )
    try:
        return Path(fetcher.fetch(name, progressbar=sys.stderr.isatty()))
    except (
        OSError,
        ValueError,
    ) as error:  # requests' errors are OSErrors, a wrong checksum is pooch's ValueError
        raise ValueError(
            f"Could not download {address}: {error}. Try again, or give the files by --from."
        ) from error


def _name(url: str) -> str:
    """The name of the file, or of the archive's member, that a URL means."""
    address, _, member = url.partition("#")
    return member or address.rsplit("/", 1)[-1]


def _read(description: str, files: Mapping[str, Sequence[tuple[Path, str]]]) -> Source:
    rows: dict[str, list[Row]] = {}
    checksums: dict[str, str] = {}
    for split, paths in files.items():
        rows[split] = []
        for path, name in paths:
            checksums[f"{split}: {name}"] = file_sha256(path)
            start = len(rows[split])
            for index, (place, values) in enumerate(_parse(path, name)):
                # A file that holds a part of the published one says which rows.
                number = values["idx"] if "idx" in values else start + index
                rows[split].append(Row(place, -1 if number is None else int(number), values))
        if not rows[split]:
            raise ValueError(f"{', '.join(str(p) for p, _ in paths)}: no rows for split '{split}'.")
    return Source(description, rows, checksums)


def _parse(path: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = _text(path, name)
    except (OSError, EOFError, UnicodeDecodeError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path}: cannot be read: {error}.") from error
    kind = name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        reader.fieldnames  # noqa: B018 (reads the heading, so that line_num is its last line)
        line = reader.line_num + 1
        for row in reader:
            yield f"{path}:{line}", row
            line = reader.line_num + 1  # a cell may hold line breaks
    elif kind == "xml":
        yield from _parse_xml(path, text)
    elif kind in ("json", "jsonl"):
        yield from _parse_json(path, text)
    else:
        raise ValueError(f"{path}: unknown kind '.{kind}'; use .json, .jsonl, .csv or .xml, also with .gz.")


def _delimiter(text: str) -> str:
    """A comma, or what alone divides the header: a semicolon, a tab."""
    header = text.partition("\n")[0]
    return "," if "," in header else next((mark for mark in ";\t|" if mark in header), ",")


def _text(path: Path, name: str) -> str:
    """The file's text, without a Unicode mark."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(name).decode("utf-8-sig")
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            return file.read()
    return path.read_text(encoding="utf-8-sig")


def _parse_json(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if text.lstrip().startswith("["):
        try:
            elements = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from error
        placed = [(f"{path}, element {index}", element) for index, element in enumerate(elements)]
    else:
        placed = []
        for line, content in enumerate(text.split("\n"), start=1):
            if not content.strip():
                continue
            try:
                placed.append((f"{path}:{line}", json.loads(content)))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{line}: not JSON: {error.msg} at column {error.colno}.") from error
    for place, element in placed:
        if not isinstance(element, dict):
            raise ValueError(f"{place}: {element!r:.60} is not an object.")
        yield place, element


def _parse_xml(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}:{error.position[0]}: not XML: {error}.") from error
    for index, element in enumerate(root.iter("Problem")):
        children = {child.tag: (child.text or "").strip() for child in element}
        yield f"{path}, Problem {index}", {**element.attrib, **children}
