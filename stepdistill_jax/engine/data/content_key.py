"""A hash of everything that a task's token ids depend on, so that they can be kept and found again."""

import functools
import hashlib
import importlib.metadata
import inspect
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import seqio

_PLAIN = (str, bytes, int, float, complex, bool, type(None))


class NotIdentifiable(ValueError):
    """Something that a task depends on has no identity that outlives the process."""


def content_key(task: seqio.Task, *, split: str, lengths: Mapping[str, int], use_cached: bool) -> str | None:
    """sha256 in hex over a task's records, preprocessors, vocabularies and lengths; None where one cannot be told.

    A source names its own content by a method `content_id(split) -> str`; files that SeqIO lists are told by path, size and
    time of change. A preprocessor is told by its code, what it is bound to, and the functions of its own package that it
    calls.
    """
    if use_cached:
        return None
    digest = hashlib.sha256()
    try:
        parts = [
            ("task", task.name),
            ("split", split),
            ("lengths", _identity(dict(lengths))),
            ("seqio", importlib.metadata.version("seqio")),
            ("source", _source_identity(task.source, split)),
            *(("preprocessor", _identity(preprocessor)) for preprocessor in task.preprocessors),
            *(
                (
                    name,
                    f"{vocabulary_identity(feature.vocabulary)} {feature.add_eos} {feature.required} {feature.dtype}",
                )
                for name, feature in sorted(task.output_features.items())
            ),
        ]
    except (NotIdentifiable, OSError):  # without its files the task cannot be read either, and says so better
        return None
    for name, identity in parts:
        digest.update(f"{name}\0{identity}\0".encode())
    return digest.hexdigest()


def _source_identity(source: seqio.DataSource, split: str) -> str:
    if hasattr(source, "content_id"):
        return source.content_id(split)
    if isinstance(source, seqio.FileDataSource):
        # Text files, TFRecords and Protos differ in how they are read: by class, and by what it was made with.
        return f"{type(source).__qualname__} {_identity(source._reader)} {_files(source.list_shards(split))}"
    if isinstance(source, seqio.TfdsDataSource):
        return f"{source.tfds_dataset.builder.info.full_name} {_files(source.list_shards(split))}"
    raise NotIdentifiable(f"a {type(source).__name__}")


def _files(paths: Any) -> str:
    told = []
    for path in sorted(map(str, paths)):
        try:
            status = Path(path).stat()
        except OSError as error:  # gs://…, for one
            raise NotIdentifiable(path) from error
        told.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(told)


def vocabulary_identity(vocabulary: seqio.Vocabulary) -> str:
    """Text that is the same for vocabularies that give the same ids; one may name another by `stands_for`."""
    vocabulary = getattr(vocabulary, "stands_for", vocabulary)
    settings = (
        f"{type(vocabulary).__qualname__} {vocabulary.vocab_size} {vocabulary.extra_ids} {vocabulary.eos_id}"
    )
    if isinstance(content := getattr(vocabulary, "content", None), str):  # of a tokenizer.json
        return f"{settings} {content}"
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return f"{settings} {hashlib.sha256(vocabulary.sp_model).hexdigest()}"
    if isinstance(vocabulary, (seqio.PassThroughVocabulary, seqio.ByteVocabulary)):
        return settings
    raise NotIdentifiable(settings)


def _identity(value: Any, seen: frozenset[int] = frozenset()) -> str:
    """Text that says what a value is: for a function its code and what it is bound to.

    Raises:
      NotIdentifiable: for an object whose content is not known.
    """
    if isinstance(value, _PLAIN):
        return repr(value)
    if id(value) in seen:
        return "itself"
    seen |= {id(value)}
    inner = functools.partial(_identity, seen=seen)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(inner, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{','.join(sorted(map(inner, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{inner(key)}:{inner(value[key])}' for key in value)}}}"
    if isinstance(value, functools.partial):
        return f"partial({inner(value.func)},{inner(value.args)},{inner(value.keywords)})"
    if isinstance(value, types.FunctionType):
        return _function_identity(value, seen)
    if isinstance(value, types.MethodType):
        return f"method({inner(value.__self__)},{inner(value.__func__)})"
    if isinstance(value, types.ModuleType) or inspect.isclass(value) or inspect.isbuiltin(value):
        return getattr(value, "__qualname__", value.__name__)
    if isinstance(value, seqio.Vocabulary):
        return vocabulary_identity(value)
    if isinstance(value, seqio.CacheDatasetPlaceholder):
        return "cache"
    raise NotIdentifiable(repr(value))


def _function_identity(function: types.FunctionType, seen: frozenset[int]) -> str:
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    bound = [closure, function.__defaults__, function.__kwdefaults__]
    package = function.__module__.partition(".")[0]
    called = {
        name: function.__globals__[name]
        for name in _names(function.__code__)
        if name in function.__globals__ and not name.startswith("__")
    }
    # Of other packages the name is enough: their versions are in the key, or their authors keep their word.
    own = [
        _identity(value, seen)
        for value in called.values()
        if isinstance(value, (*_PLAIN, tuple, dict))
        or (isinstance(value, types.FunctionType) and value.__module__.partition(".")[0] == package)
    ]
    return f"{function.__module__}.{function.__qualname__}({_code(function.__code__)},{_identity(bound, seen)},{own})"


def _names(code: types.CodeType) -> list[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for const in inner for name in _names(const))]


def _code(code: types.CodeType) -> str:
    constants = [
        _code(const) if isinstance(const, types.CodeType) else repr(const) for const in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
