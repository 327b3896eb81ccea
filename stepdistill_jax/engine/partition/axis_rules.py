"""The table from logical axes to mesh axes."""

from collections.abc import Sequence

from stepdistill_jax.engine.partition.meshes import (
    DATA_AXIS,
    MODEL_AXIS,
)

LogicalAxisRules = Sequence[tuple[str, str | tuple[str, ...] | None]]


class AxisNames(tuple):
    """Names of an array's logical axes, a leaf to `jax.tree`. T5X's name."""

    __slots__ = ()

    def __new__(cls, *names: str | None) -> "AxisNames":
        return super().__new__(cls, names)

    def __repr__(self) -> str:
        return f"AxisNames{super().__repr__()}"


def standard_logical_axis_rules(
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: LogicalAxisRules | None = None,
) -> LogicalAxisRules:
    """T5X's table from logical axes to mesh axes; the first rule that fits an array wins.

    Args:
      activation_partitioning_dims: 1 keeps activations whole along 'embed'; 2 splits them over 'model' as well.
      parameter_partitioning_dims: 1 splits parameters over 'model' only; 2 over 'data' as well, which is FSDP (ZeRO-3). On a
        mesh with 'replica' every replica has a copy: only gradients then cross the network between slices or hosts.
      additional_rules: appended, so they serve axes that the table does not name.

    Raises:
      ValueError: if a number of dims is not 1 or 2.
    """
    if activation_partitioning_dims not in (1, 2) or parameter_partitioning_dims not in (1, 2):
        raise ValueError(
            f"activation_partitioning_dims={activation_partitioning_dims} and parameter_partitioning_dims="
            f"{parameter_partitioning_dims}: each must be 1 or 2."
        )
    rules: list[tuple[str, str | tuple[str, ...] | None]] = [
        ("batch", DATA_AXIS),  # data parallelism
        ("vocab", MODEL_AXIS),  # the embedding and the logits are the largest matrices: split their rows
        ("mlp", MODEL_AXIS),  # Megatron's split: columns of wi, rows of wo, one all-reduce a block
        ("heads", MODEL_AXIS),  # likewise, each device its own heads
        ("kv", None),  # inside a head: never split
        ("joined_kv", MODEL_AXIS),  # heads x kv as the attention's parameters hold them
    ]
    if activation_partitioning_dims == 2:
        rules.append(("embed", MODEL_AXIS))
    if parameter_partitioning_dims == 2:
        rules.append(("embed", DATA_AXIS))
    if activation_partitioning_dims == parameter_partitioning_dims == 1:
        rules.append(("embed", None))
    replicated = ("relpos_buckets", "abspos_buckets", "length", "layers", "stack", "mlp_activations")
    rules.extend((axis, None) for axis in replicated)  # small, or walked over one after another
    rules.extend(additional_rules or ())
    return rules
