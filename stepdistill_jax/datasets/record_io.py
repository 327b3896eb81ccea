"""Folders of TFRecords that `tfds.builder_from_directory` opens, with a manifest.

    FOLDER/train-00000-of-00002.tfrecord …   records
           dataset_info.json features.json   what TFDS needs (and LICENSE, if one is given)
           manifest.json                     counts, sha256 of every file, the identity of what each split says, and what
                                             the writer wants to say

A folder is written under a temporary name, the manifest last, and then renamed: a folder of the right name is whole. The same
records make the same bytes, in any process.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base import quiet
from stepdistill_jax.base.whole_files import file_sha256, new_folder
from stepdistill_jax.datasets.lineage.content import Identifying

MANIFEST = "manifest.json"
IDENTITY = "identity"  # of a manifest: split -> `lineage.content.Identity`
DEFAULT_SHARD_SIZE = 50_000  # examples; about 20 MB of e-SNLI
_BATCH = 512  # records parsed together

# Kinds of features.
TEXT, TEXTS, INTEGER, BOOLEAN = "text", "texts", "int", "bool"

Record = Mapping[str, Any]


def write_records(
    folder: str | os.PathLike,
    *,
    name: str,
    features: Mapping[str, str],
    splits: Mapping[str, Iterable[Record]],
    manifest: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    licence: str = "",
    description: str = "",
) -> dict[str, Any]:
    """Writes all splits as one folder, in the place of an older one, and gives the manifest.

    Args:
      folder: its final name; missing parents are made.
      name: of the dataset, for TFDS.
      features: name -> 'text', 'texts' (a list of them), 'int' or 'bool'.
      splits: split -> records, read once and in order; may be a generator. A record has every feature.
      manifest: further entries, or a function that gives them once all records are written. 'name', 'counts', 'features',
        'files' and, of records that are or answer examples, 'identity' are filled in here.
      shard_size: records per file.
      licence, description: go into dataset_info.json.

    Raises:
      ValueError: if a split has no record, or a record lacks a feature or has one of another type. Nothing is left
        behind then, and an older folder stays as it was.
      OSError: if the disk is full, or fails; the same holds.
    """
    with new_folder(Path(folder), replaces=True) as temporary:
        encoder = _features(features)
        has_identity = {"example_id", "inputs", "label", "has_label"} <= features.keys()
        identifying = {split: Identifying() for split in splits if has_identity}
        shards = {
            split: _write_split(
                temporary,
                split,
                encoder,
                features,
                identifying[split].passing(records) if has_identity else records,
                shard_size,
            )
            for split, records in splits.items()
        }
        _write_tfds_metadata(temporary, name, encoder, shards, licence=licence, description=description)
        written = {
            **((manifest() if callable(manifest) else manifest) or {}),
            "name": name,
            "counts": {split: sum(lengths) for split, (lengths, _) in shards.items()},
            **(
                {IDENTITY: {s: each.identity.as_dict() for s, each in identifying.items()}}
                if has_identity
                else {}
            ),
            "features": dict(features),
            "files": {path.name: file_sha256(path) for path in sorted(temporary.iterdir())},
        }
        (temporary / MANIFEST).write_text(
            json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return written


def _features(kinds: Mapping[str, str]) -> Any:
    """The TFDS features of our four kinds."""
    quiet.import_tensorflow()
    import tensorflow as tf
    import tensorflow_datasets as tfds

    connectors = {
        "text": lambda: tfds.features.Text(),
        "texts": lambda: tfds.features.Sequence(tfds.features.Text()),
        "int": lambda: tfds.features.Scalar(tf.int64),
        "bool": lambda: tfds.features.Scalar(tf.bool),
    }
    for feature, kind in kinds.items():
        if kind not in connectors:
            raise ValueError(f"Feature '{feature}' has kind '{kind}'; kinds are {sorted(connectors)}.")
    return tfds.features.FeaturesDict({feature: connectors[kind]() for feature, kind in kinds.items()})


_TYPES = {"text": (str,), "texts": (list, tuple), "int": (int,), "bool": (bool,)}


def _check(record: Record, kinds: Mapping[str, str], place: str) -> dict[str, Any]:
    for feature, kind in kinds.items():
        if feature not in record:
            raise ValueError(f"{place}: the record has no '{feature}'; it has {sorted(record)}.")
        value = record[feature]
        if not isinstance(value, _TYPES[kind]) or (kind == "int" and isinstance(value, bool)):
            raise ValueError(f"{place}: '{feature}' is {value!r:.80}, which is not of kind '{kind}'.")
    unknown = set(record) - set(kinds)
    if unknown:
        raise ValueError(f"{place}: the record has {sorted(unknown)}, which are not among the features.")
    return {feature: list(v) if isinstance(v := record[feature], tuple) else v for feature in kinds}


def _write_split(
    folder: Path,
    split: str,
    encoder: Any,
    kinds: Mapping[str, str],
    records: Iterable[Record],
    shard_size: int,
) -> tuple[list[int], int]:
    """Writes one split; gives the records per shard and their bytes. Shards are named once their number is known."""
    quiet.import_tensorflow()
    import tensorflow as tf
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    serializer = ExampleSerializer(encoder.get_serialized_info())
    lengths: list[int] = []
    num_bytes = 0
    with _disk_errors(folder), contextlib.ExitStack() as stack:
        for number, record in enumerate(records):
            if number % shard_size == 0:
                stack.close()
                writer = stack.enter_context(
                    tf.io.TFRecordWriter(str(folder / f"{split}-{len(lengths):05d}"))
                )
                lengths.append(0)
            row = _check(record, kinds, f"{split}, record {number}")
            # As TFDS does it, but for the order of a map's entries, which differs from process to process.
            message = serializer.get_tf_example(encoder.encode_example(row))
            serialized = message.SerializeToString(deterministic=True)
            writer.write(serialized)
            lengths[-1] += 1
            num_bytes += len(serialized)
    if not lengths:
        raise ValueError(f"Split '{split}' has no examples; leave it out, or mend its source.")
    for shard in range(len(lengths)):
        (folder / f"{split}-{shard:05d}").rename(folder / shard_name(split, shard, len(lengths)))
    return lengths, num_bytes


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """TensorFlow's errors of a disk as Python's own, which are one line."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.parent)) from error


def shard_name(split: str, shard: int, num_shards: int) -> str:
    """'train-00000-of-00002.tfrecord'."""
    return f"{split}-{shard:05d}-of-{num_shards:05d}.tfrecord"


def _write_tfds_metadata(
    folder: Path,
    name: str,
    encoder: Any,
    shards: Mapping[str, tuple[list[int], int]],
    *,
    licence: str,
    description: str,
) -> None:
    quiet.import_tensorflow()
    import tensorflow_datasets as tfds

    template = "{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}"
    split_infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=lengths,
            num_bytes=num_bytes,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=folder, template=template, dataset_name=name, split=split, filetype_suffix="tfrecord"
            ),
        )
        for split, (lengths, num_bytes) in shards.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=encoder,
        split_infos=split_infos,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder, template=template, dataset_name=name, filetype_suffix="tfrecord"
        ),
        version="1.0.0",
        check_data=False,
        description=description or name,
        license=licence or None,
    )


def sha256_of_texts(texts: Iterable[str]) -> str:
    """Of texts, each ended by a zero byte, in hex."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8") + b"\0")
    return digest.hexdigest()


def read_manifest(folder: str | os.PathLike) -> dict[str, Any] | None:
    """The manifest, None if the folder has none (so it is not there, or was never finished).

    Raises:
      ValueError: if it is not JSON.
    """
    path = Path(folder) / MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); write the folder again.") from error


def content_id(folder: str | os.PathLike) -> str:
    """Text that changes with the folder's records: its manifest's sha256, and each file's size and time of change.

    Raises:
      FileNotFoundError: if the folder was not written to the end.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no {MANIFEST}: it was not written to the end; write it again.")
    status = {file: (path.parent / file).stat() for file in sorted(read_manifest(folder)["files"])}
    sizes = [f"{file} {of.st_size} {of.st_mtime_ns}" for file, of in status.items()]
    return "\n".join([file_sha256(path), *sizes])


def verify(folder: str | os.PathLike) -> dict[str, Any]:
    """Compares every file with the manifest's sha256, and gives the manifest.

    Raises:
      ValueError: names the first file that is missing or differs.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder} has no {MANIFEST}: it was not written to the end; write it again.")
    for file, expected in manifest["files"].items():
        path = Path(folder) / file
        if not path.exists():
            raise ValueError(f"{path} is missing, though {MANIFEST} lists it; write the folder again.")
        if file_sha256(path) != expected:
            raise ValueError(
                f"{path} ({path.stat().st_size} bytes) is damaged: its sha256 is not the manifest's; write the folder again."
            )
    return manifest


def verify_once(folder: Path) -> int:
    """As `verify`, once a process and version of the folder, whose manifest's time it gives, in ns. A GB takes about a second."""
    path = folder / MANIFEST
    written_ns = path.stat().st_mtime_ns if path.exists() else 0
    _verify_version(folder, written_ns)
    return written_ns


@functools.lru_cache(maxsize=64)
def _verify_version(folder: Path, written_ns: int) -> None:
    del written_ns
    verify(folder)


def shards_of(files: Iterable[str], split: str) -> list[str]:
    """Those of a manifest's files that hold a split, in order."""
    return sorted(file for file in files if re.fullmatch(rf"{re.escape(split)}-\d+-of-\d+\.tfrecord", file))


def read_records(
    folder: str | os.PathLike, split: str, *, features: Iterable[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The records of a split in the order they were written, as str, int, bool and tuples of str.

    They are read as they are wanted: a split of any size takes little memory.

    Args:
      folder: of the records.
      split: that the folder has.
      features: of a record; those that the folder lacks are left out. None gives all.

    Raises:
      ValueError: if the folder or the split is not there, or a shard is damaged.
    """
    quiet.import_tensorflow()
    import tensorflow as tf

    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder} has no {MANIFEST}: nothing was written there to the end.")
    if split not in manifest["counts"]:
        raise ValueError(f"{folder} has no split '{split}'; it has {sorted(manifest['counts'])}.")
    kinds = manifest["features"]
    if features is not None:
        kinds = {name: kinds[name] for name in features if name in kinds}
    shards = shards_of(manifest["files"], split)
    specification = {feature: _parser(kind) for feature, kind in kinds.items()}
    batches = (
        tf.data.TFRecordDataset([str(Path(folder) / shard) for shard in shards])
        .batch(_BATCH)
        .map(lambda serialized: tf.io.parse_example(serialized, specification))
        .prefetch(1)
    )
    try:
        for batch in batches:  # parsed together: 10 microseconds a record, where TFDS' decoders take 200
            columns = [_plain(batch[feature], kind) for feature, kind in kinds.items()]
            for values in zip(*columns, strict=True):
                yield dict(zip(kinds, values, strict=True))
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        verify(folder)  # names the shard
        raise ValueError(f"{folder}: split '{split}' cannot be read ({error.message}).") from error


def is_hinted(record: Mapping[str, Any]) -> bool:
    """Whether a teacher's answer was given with the gold label as a hint."""
    return '"hinted": true' in record.get("sampling", "")


def _parser(kind: str) -> Any:
    """How TensorFlow parses a feature of this kind; the encoding is that of TFDS."""
    quiet.import_tensorflow()
    import tensorflow as tf

    if kind == "texts":
        return tf.io.RaggedFeature(tf.string)
    return tf.io.FixedLenFeature([], tf.string if kind == "text" else tf.int64)


def _plain(column: Any, kind: str) -> list[Any]:
    if kind == "text":
        return [value.decode("utf-8") for value in column.numpy()]
    if kind == "texts":
        return [tuple(text.decode("utf-8") for text in row) for row in column.to_list()]
    return (column.numpy() != 0).tolist() if kind == "bool" else column.numpy().tolist()
