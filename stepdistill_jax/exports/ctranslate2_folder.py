"""A T5 as CTranslate2's model folder, through CTranslate2's own specs: without torch, transformers or their converter.

Their converter reads the decoder's output scale off `tie_word_embeddings`, which transformers 5 sets for every T5: logits of a
T5 v1.1 then come out divided by sqrt(d_model), and with them every log-probability. Here the scale is the checkpoint's own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepdistill_jax.interop.t5.sizes import MAX_DISTANCE, T5Sizes
from stepdistill_jax.interop.t5.t5_checkpoint import T5Checkpoint

QUANTIZATIONS = ("int8", "float32")
_PAD_ID = 0
_LAYER_NORM_EPSILON = 1e-6
# flax.linen's name of an activation -> CTranslate2's; flax's gelu is the approximation by tanh.
_ACTIVATIONS = {"relu": "RELU", "gelu": "GELUTanh", "silu": "SWISH", "swish": "SWISH", "tanh": "Tanh"}
_EMBEDDING, _OUTPUT = "token_embedder/embedding", "decoder/logits_dense/kernel"

Read = Callable[[str], np.ndarray]


def names_of_ids(pieces: Sequence[str], vocab_size: int) -> list[str]:
    """A name for every row of the embedding, none twice: what the id stands for, or '<unused_32100>'."""
    return [*pieces, *(f"<unused_{token}>" for token in range(len(pieces), vocab_size))]


def write_ctranslate2(
    checkpoint: T5Checkpoint,
    folder: Path,
    *,
    tokens: Sequence[str],
    eos_id: int,
    unk_id: int,
    quantization: str,
) -> None:
    """Writes model.bin, config.json and shared_vocabulary.json; in memory is the whole model, in float32.

    Args:
      tokens: a name for every id, none twice; CTranslate2 is asked with names, so whoever asks maps ids by this list.
      quantization: 'int8' keeps weight matrices and embeddings as 8-bit integers with a scale a row; norms, biases of
        positions and activations between layers are float32.

    Raises:
      ValueError: if CTranslate2 is not installed, or has no such activation.
    """
    model = _spec(checkpoint.sizes, _reader(checkpoint))
    model.register_source_vocabulary(list(tokens))
    model.register_target_vocabulary(list(tokens))
    # T5's decoder begins with padding.
    model.config.bos_token = model.config.decoder_start_token = tokens[_PAD_ID]
    model.config.eos_token, model.config.unk_token = tokens[eos_id], tokens[unk_id]
    model.config.layer_norm_epsilon = _LAYER_NORM_EPSILON
    model.validate()
    model.optimize(quantization=quantization)
    model.save(str(folder))


def _reader(checkpoint: T5Checkpoint) -> Read:
    """T5X's path of a parameter -> its numbers as torch's layers keep them, [out, in], float32."""
    arrays = dict((parameter.name, (parameter, array)) for parameter, array in checkpoint.parameters)

    def read(name: str) -> np.ndarray:
        parameter, array = arrays[name]
        numbers = array.read().astype(np.float32)
        return np.ascontiguousarray(numbers.T if parameter.turned else numbers)

    return read


def _spec(sizes: T5Sizes, read: Read) -> Any:
    try:
        from ctranslate2.specs import common_spec, transformer_spec
    except ImportError as error:
        raise ValueError(
            "CTranslate2 is not installed: pip install ctranslate2 (or '.[ctranslate2]' from a clone)."
        ) from error
    activation, *gate = sizes.mlp_activations
    if activation not in _ACTIVATIONS or gate not in ([], ["linear"]):
        raise ValueError(
            f"mlp_activations={sizes.mlp_activations!r}: CTranslate2 has no such feed-forward block; it has "
            f"{', '.join(_ACTIVATIONS)}, with 'linear' as second or alone."
        )
    model = transformer_spec.TransformerSpec.from_config(
        (sizes.num_encoder_layers, sizes.num_decoder_layers),
        sizes.num_heads,
        pre_norm=True,
        activation=common_spec.Activation[_ACTIVATIONS[activation]],
        ffn_glu=bool(gate),
        relative_attention_bias=True,
        rms_norm=True,
    )
    embedding = read(_EMBEDDING)
    model.encoder.embeddings[0].weight = embedding
    model.decoder.embeddings.weight = embedding
    model.decoder.projection.weight = embedding if sizes.logits_via_embedding else read(_OUTPUT)
    if sizes.logits_via_embedding:
        model.decoder.scale_outputs = sizes.emb_dim**-0.5
    for stack, spec in (("encoder", model.encoder), ("decoder", model.decoder)):
        spec.scale_embeddings = False
        spec.layer_norm.gamma = read(f"{stack}/{stack}_norm/scale")
        shared = None if sizes.relpos_bias_in_every_layer else read(f"{stack}/relpos_bias/rel_embedding")
        for index, layer in enumerate(spec.layer):
            at = f"{stack}/layers_{index}"
            bias = shared if shared is not None else read(f"{at}/relpos_bias/rel_embedding")
            _set_layer(layer, at, read, bias, is_decoder=stack == "decoder")
    return model


def _set_layer(layer: Any, at: str, read: Read, bias: np.ndarray, *, is_decoder: bool) -> None:
    name = "self_attention" if is_decoder else "attention"
    _set_attention(layer.self_attention, f"{at}/{name}", read, ["query", "key", "value"])
    layer.self_attention.layer_norm.gamma = read(f"{at}/pre_{name}_layer_norm/scale")
    layer.self_attention.relative_attention_bias = bias  # [buckets, heads]
    layer.self_attention.relative_attention_max_distance = np.int32(MAX_DISTANCE)
    if is_decoder:
        _set_attention(layer.attention, f"{at}/encoder_decoder_attention", read, ["query"], ["key", "value"])
        layer.attention.layer_norm.gamma = read(f"{at}/pre_cross_attention_layer_norm/scale")
    layer.ffn.layer_norm.gamma = read(f"{at}/pre_mlp_layer_norm/scale")
    gated = hasattr(layer.ffn, "linear_0_noact")
    layer.ffn.linear_0.weight = read(f"{at}/mlp/{'wi_0' if gated else 'wi'}/kernel")
    if gated:
        layer.ffn.linear_0_noact.weight = read(f"{at}/mlp/wi_1/kernel")
    layer.ffn.linear_1.weight = read(f"{at}/mlp/wo/kernel")


def _set_attention(spec: Any, at: str, read: Read, *fused: list[str]) -> None:
    """Projections that CTranslate2 keeps as one matrix, then the output's. T5 does not scale its queries."""
    spec.queries_scale = 1.0
    for linear, names in zip(spec.linear, fused, strict=False):
        linear.weight = np.concatenate([read(f"{at}/{name}/kernel") for name in names])
    spec.linear[-1].weight = read(f"{at}/out/kernel")
