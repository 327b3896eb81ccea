"""A T5 in a Hugging Face folder: its sizes, and a tensor for every parameter, however often the file repeats the embedding."""

from collections.abc import Mapping
from typing import Any

from stepdistill_jax.interop.lazy_array import LazyArray, same_numbers
from stepdistill_jax.interop.parameter import Parameter, of_huggingface
from stepdistill_jax.interop.t5 import parameter_names
from stepdistill_jax.interop.t5.huggingface_config import scales_logits, sizes_of_config
from stepdistill_jax.interop.t5.sizes import T5Sizes


def match_t5(
    config: Mapping[str, Any], tensors: Mapping[str, LazyArray], *, source: str
) -> tuple[T5Sizes, list[tuple[Parameter, LazyArray]]]:
    """The sizes, and a tensor for every parameter.

    Args:
      config: of config.json.
      tensors: by Hugging Face's names.
      source: the folder, for errors.

    Raises:
      ValueError: lists every name and shape that is not the network's.
    """
    settled, problems = _settle_embeddings(config, tensors)
    sizes = sizes_of_config(config, has_head=parameter_names.HEAD in settled, where=f"{source}/config.json")
    wanted = parameter_names.parameters(sizes)
    return sizes, of_huggingface(wanted, settled, source=source, kind="T5", more=problems)


def _settle_embeddings(
    config: Mapping[str, Any], tensors: Mapping[str, LazyArray]
) -> tuple[dict[str, LazyArray], list[str]]:
    """The tensors with one embedding, and an output layer only if the network has one; and what is wrong with them.

    Torch files repeat the embedding under its aliases, safetensors may keep it under any one of them; tied weights
    may or may not have `lm_head.weight`. Whether two are one, the file tells, or else the numbers.
    """
    tensors = {name: array for name, array in tensors.items() if name not in parameter_names.UNUSED}
    names = (parameter_names.SHARED, *parameter_names.EMBEDDING_ALIASES)
    candidates = names if not scales_logits(config) else (*names, parameter_names.HEAD)
    embedding = next((tensors[name] for name in candidates if name in tensors), None)
    if embedding is None:
        return tensors, []
    problems = [
        f"{name} differs from {parameter_names.SHARED}"
        for name in names
        if name in tensors and not same_numbers(embedding, tensors.pop(name))
    ]
    tensors[parameter_names.SHARED] = embedding
    if scales_logits(config):
        if parameter_names.HEAD in tensors and same_numbers(embedding, tensors[parameter_names.HEAD]):
            del tensors[parameter_names.HEAD]
    else:
        # transformers 5 ties whatever is equal, and still does not scale: an output layer equal to the embedding.
        tensors.setdefault(parameter_names.HEAD, embedding)
    return tensors, problems
