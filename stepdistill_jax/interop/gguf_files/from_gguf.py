"""A GGUF file to a checkpoint that training begins from: as of a Hugging Face folder, which is made of it first, tensors apart."""

import dataclasses
from pathlib import Path

from stepdistill_jax.interop.from_huggingface import ConvertedModel, ModelFiles, convert_model
from stepdistill_jax.interop.gguf_files.reading import GGUFFile, huggingface_tensors, open_gguf
from stepdistill_jax.interop.gguf_files.settings import config_of_gguf
from stepdistill_jax.interop.gguf_files.tokenizer import write_tokenizer
from stepdistill_jax.interop.json_files import write_json


@dataclasses.dataclass(frozen=True)
class Origin:
    """Attributes:
    name: that the file gives the model; '' where it gives none.
    license: likewise, 'apache-2.0'.
    quantizations: of its tensors, the most frequent first.
    """

    name: str
    license: str
    quantizations: tuple[str, ...]


def convert_from_gguf(
    source: Path,
    destination: Path,
    *,
    step: int | None = None,
    dtype: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> tuple[ConvertedModel, Origin]:
    """As `convert_from_huggingface`, of a GGUF file; quantised tensors become float32.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, or of an architecture, a tokenizer or a quantisation that is not converted.
    """
    file = open_gguf(source)
    config = config_of_gguf(file)

    def write_beside(folder: Path) -> None:
        write_json(folder / "config.json", config)
        write_tokenizer(file, folder)

    model = ModelFiles(source.name, str(source), config, huggingface_tensors(file), write_beside)
    converted = convert_model(model, destination, step=step, dtype=dtype, start=start, end=end)
    return converted, _origin(file)


def _origin(file: GGUFFile) -> Origin:
    kinds = [tensor.tensor_type.name for tensor in file.tensors.values()]
    return Origin(
        name=str(file.fields.get("general.name", "")),
        license=str(file.fields.get("general.license", "")),
        quantizations=tuple(sorted(set(kinds), key=kinds.count, reverse=True)),
    )
