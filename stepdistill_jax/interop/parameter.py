"""A parameter under T5X's name and under Hugging Face's, and a model's tensors held against its parameters."""

import dataclasses
from collections.abc import Mapping, Sequence

from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray


@dataclasses.dataclass(frozen=True)
class Parameter:
    """Attributes:
    name: T5X's path, 'encoder/layers_0/attention/query/kernel'.
    huggingface: 'encoder.block.0.layer.0.SelfAttention.q.weight'.
    shape: as T5X keeps it.
    turned: whether Hugging Face keeps the transpose.
    """

    name: str
    huggingface: str
    shape: tuple[int, ...]
    turned: bool

    @property
    def huggingface_shape(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.turned else self.shape


def misfits(
    wanted: Mapping[str, tuple[int, ...]],
    arrays: Mapping[str, LazyArray],
    *,
    shape_said_by: str,
    no_part: str,
) -> list[str]:
    """What is missing, of another shape, not of floats, or too much, each in words.

    Args:
      wanted: name -> shape.
      arrays: name -> what there is.
      shape_said_by: 'config.json wants'.
      no_part: 'is not in the network'.
    """
    problems = []
    for name, shape in wanted.items():
        array = arrays.get(name)
        if array is None:
            problems.append(f"{name} is missing")
        elif array.shape != shape:
            problems.append(f"{name} has shape {array.shape}, {shape_said_by} {shape}")
        elif array.dtype not in FLOAT_DTYPES.values():
            problems.append(f"{name} is of {array.dtype}, not {', '.join(FLOAT_DTYPES)}")
    return problems + [
        f"{name} of shape {array.shape} {no_part}"
        for name, array in sorted(arrays.items())
        if name not in wanted
    ]


def of_checkpoint(
    wanted: Sequence[Parameter], arrays: Mapping[str, LazyArray], *, path: str, kind: str
) -> list[tuple[Parameter, LazyArray]]:
    """Each parameter with a checkpoint's array.

    Raises:
      ValueError: lists all that differ.
    """
    problems = misfits(
        {parameter.name: parameter.shape for parameter in wanted},
        arrays,
        shape_said_by="the other sizes make it",
        no_part="is no part of it",
    )
    if problems:
        raise ValueError(f"{path} is no {kind}, {len(problems)} parameters differ: {'; '.join(problems)}.")
    return [(parameter, arrays[parameter.name]) for parameter in wanted]


def of_huggingface(
    wanted: Sequence[Parameter],
    tensors: Mapping[str, LazyArray],
    *,
    source: str,
    kind: str,
    more: Sequence[str] = (),
) -> list[tuple[Parameter, LazyArray]]:
    """Each parameter with a tensor as Hugging Face keeps it.

    Args:
      more: what else is wrong, said first.

    Raises:
      ValueError: lists all that differ.
    """
    shapes = {parameter.huggingface: parameter.huggingface_shape for parameter in wanted}
    problems = [
        *more,
        *misfits(shapes, tensors, shape_said_by="config.json wants", no_part="is not in the network"),
    ]
    if problems:
        raise ValueError(
            f"{source} does not hold the {kind} that its config.json describes, {len(problems)} tensors differ: "
            f"{'; '.join(problems)}."
        )
    return [(parameter, tensors[parameter.huggingface]) for parameter in wanted]
