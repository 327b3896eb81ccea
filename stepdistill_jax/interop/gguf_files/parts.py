"""The parts of a model that llama.cpp's gguf-split has cut: model-00001-of-00002.gguf says of itself what the whole does, others tensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def part_paths(path: Path, fields: Mapping[str, Any]) -> list[Path]:
    """Where all parts of a model lie, in their order; of a whole file, itself.

    Args:
      path: of any part.
      fields: what that part says of itself.

    Raises:
      FileNotFoundError: lists the parts that are not there.
      ValueError: if the file has not the name of the part that it is.
    """
    count = fields.get("split.count", 1)
    if count <= 1:
        return [path]
    number = fields.get("split.no", 0) + 1
    name = _NAME.fullmatch(path.name)
    if name is None or (int(name["number"]), int(name["count"])) != (number, count):
        raise ValueError(
            f"{path} is part {number} of {count}, and parts are found by their names; call it NAME-{number:05d}-of-{count:05d}.gguf, as "
            "it was called, and the others likewise."
        )
    paths = [path.with_name(f"{name['stem']}-{part:05d}-of-{count:05d}.gguf") for part in range(1, count + 1)]
    if missing := [part.name for part in paths if not part.is_file()]:
        raise FileNotFoundError(
            f"{path.parent} lacks {len(missing)} of the model's {count} parts: {', '.join(missing)}; fetch them into the same folder."
        )
    return paths


def joined(
    paths: list[Path], fields: list[Mapping[str, Any]], tensors: list[Mapping[str, Any]]
) -> dict[str, Any]:
    """The tensors of all parts, by their names.

    Raises:
      ValueError: if a part is another than its name says, or of another model.
    """
    for number, (path, said) in enumerate(zip(paths, fields, strict=True)):
        if (said.get("split.no"), said.get("split.count")) != (number, len(paths)):
            raise ValueError(
                f"{path} says that it is part {said.get('split.no', 0) + 1} of {said.get('split.count', 1)}, not what its name says; "
                "fetch it again."
            )
    found = {name: tensor for part in tensors for name, tensor in part.items()}
    totals = {said.get("split.tensors.count") for said in fields}
    if totals != {len(found)} or len(found) != sum(len(part) for part in tensors):
        raise ValueError(
            f"{paths[0]} and the model's other parts are not of one conversion: they do not have the tensors that each tells of; fetch "
            "all again."
        )
    return found
