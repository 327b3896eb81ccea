"""GGUF files as others write them: every quantisation, mixed ones, parts, the other byte order, settings that are not ours."""

import gguf
import numpy as np
import pytest
from small_gguf import write_file

from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.interop import convert_from_gguf
from stepdistill_jax.interop.gguf_files.reading import huggingface_tensors, open_gguf

KINDS = gguf.GGMLQuantizationType
READ = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4"


def assert_same_numbers(file, read):
    tensors = huggingface_tensors(open_gguf(file))
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"].read(), read["token_embd"])
    for theirs, name in (("mlp.down_proj", "ffn_down"), ("self_attn.v_proj", "attn_v")):
        found = tensors[f"model.layers.0.{theirs}.weight"]
        np.testing.assert_array_equal(found.read(), read[f"blk.0.{name}"])
        np.testing.assert_array_equal(found.read_rows(3, 5), read[f"blk.0.{name}"][3:5])
    query = tensors["model.layers.0.self_attn.q_proj.weight"].read()
    heads = read["blk.0.attn_q"].reshape(4, -1, 2, query.shape[-1])
    np.testing.assert_array_equal(query, heads.swapaxes(1, 2).reshape(query.shape))


@pytest.mark.parametrize("kind", READ.split())
def test_every_quantisation_is_read_as_gguf_dequantises_it(tmp_path, kind):
    read = write_file(tmp_path / "model.gguf", quantization=KINDS[kind], embed=256, mlp=256)
    assert_same_numbers(tmp_path / "model.gguf", read)


def test_a_mixed_file_becomes_a_checkpoint(tmp_path):
    def kind_of(name):
        return KINDS.Q6_K if name in ("token_embd", "blk.0.attn_v", "blk.0.ffn_down") else KINDS.Q4_K

    read = write_file(tmp_path / "model.Q4_K_M.gguf", quantization=kind_of, embed=256, mlp=256)
    model, origin = convert_from_gguf(tmp_path / "model.Q4_K_M.gguf", tmp_path / "ours")
    assert set(origin.quantizations) == {"F32", "Q4_K", "Q6_K"}
    found = open_checkpoint(model.checkpoint).parameters()
    np.testing.assert_array_equal(found["token_embedder/embedding"], read["token_embd"])
    np.testing.assert_array_equal(found["decoder/decoder_norm/scale"], read["output_norm"])


def test_a_quantisation_that_gguf_does_not_read_is_named(tmp_path):
    def edit(writer):
        packed = np.zeros((2, 256 // 32 * gguf.GGML_QUANT_SIZES[KINDS.Q8_1][1]), np.uint8)
        writer.add_tensor("odd.weight", packed, raw_dtype=KINDS.Q8_1)

    write_file(tmp_path / "model.gguf", edit=edit)
    with pytest.raises(
        ValueError, match=r"odd\.weight is of Q8_1, which the gguf package does not dequantise"
    ):
        convert_from_gguf(tmp_path / "model.gguf", tmp_path / "ours")


def test_the_other_byte_order_is_refused_not_misread(tmp_path):
    def edit(writer):
        writer.endianess = gguf.GGUFEndian.BIG

    write_file(tmp_path / "model.gguf", edit=edit)
    with pytest.raises(ValueError, match=r"model\.gguf is written for machines of the other byte order"):
        open_gguf(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rope.scaling.factor": 4.0}, r"rope\.scaling\.type='linear' with a factor of 4, which our network"),
        ({"rope.scale_linear": 2.0}, r"rope\.scaling\.type='linear' with a factor of 2, which our network"),
        ({"attention.scale": 0.5}, r"llama\.attention\.scale=0\.5, which our network does not compute"),
        ({"embedding_scale": 12.0}, r"llama\.embedding_scale=12\.0, which our network does not compute"),
        ({"attention.causal": 0}, r"llama\.attention\.causal=0, which our network does not compute"),
        ({"attention.head_count": 0}, "0 heads of queries to 2 of keys"),
        ({"attention.head_count": 7}, "7 heads of queries to 2 of keys"),
        ({"attention.head_count": 6}, r"q_proj\.weight has shape \(64, 64\), config\.json wants \(60, 64\)"),
        ({"architecture": "gemma3"}, r"lacks attention\.sliding_window"),
    ],
)  # fmt: skip
def test_settings_that_change_the_numbers_are_refused_by_name(tmp_path, fields, words):
    write_file(tmp_path / "model.gguf", **fields)
    with pytest.raises(ValueError, match=words) as caught:
        convert_from_gguf(tmp_path / "model.gguf", tmp_path / "ours")
    assert "model.gguf" in str(caught.value)


@pytest.mark.parametrize("fields", [{"rope.scaling.factor": 1.0}, {"attention.scale": 0.0}])
def test_settings_that_change_nothing_are_passed_over(tmp_path, fields):
    write_file(tmp_path / "model.gguf", **fields)
    model, _ = convert_from_gguf(tmp_path / "model.gguf", tmp_path / "ours")
    assert model.sizes.rope_factor == 1.0


def write_parts(folder, path):
    """A whole file in two parts, as llama.cpp's gguf-split cuts it."""
    reader = gguf.GGUFReader(path)
    half = len(reader.tensors) // 2
    parts = [folder / f"model-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, (part, tensors) in enumerate(
        zip(parts, (reader.tensors[:half], reader.tensors[half:]), strict=True)
    ):
        writer = gguf.GGUFWriter(part, "llama")
        for name, field in reader.fields.items() if number == 0 else ():
            if not name.startswith("GGUF.") and name != "general.architecture":
                of_items = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(name, field.contents(), field.types[0], sub_type=of_items)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return parts


@pytest.fixture
def parts(tmp_path):
    """(the two parts of a model, its numbers)."""
    read = write_file(tmp_path / "whole.gguf", quantization=KINDS.Q8_0)
    return write_parts(tmp_path, tmp_path / "whole.gguf"), read


@pytest.mark.parametrize("named", [0, 1])
def test_a_model_in_parts_is_read_whole_whichever_part_is_named(parts, tmp_path, named):
    files, read = parts
    assert_same_numbers(files[named], read)
    model, _ = convert_from_gguf(files[named], tmp_path / "ours")
    whole, _ = convert_from_gguf(tmp_path / "whole.gguf", tmp_path / "of_whole")
    assert model.sizes == whole.sizes
    assert len(open_gguf(files[named]).tensors) == len(open_gguf(tmp_path / "whole.gguf").tensors)


def test_a_part_that_is_missing_renamed_or_of_another_model_is_one_line(parts, tmp_path):
    first, second = parts[0]
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks 1 of the model's 2 parts: model-00002-of-00002\.gguf"
    ):
        convert_from_gguf(first, tmp_path / "ours")
    second.write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match=r"00002-of-00002\.gguf says that it is part 1 of 2, not what its"):
        convert_from_gguf(first, tmp_path / "ours")
    second.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"model-00002-of-00002\.gguf is no whole GGUF file"):
        convert_from_gguf(first, tmp_path / "ours")
    second.write_bytes(content)
    renamed = first.rename(tmp_path / "mine.gguf")
    with pytest.raises(ValueError, match=r"mine\.gguf is part 1 of 2.*call it NAME-00001-of-00002\.gguf"):
        convert_from_gguf(renamed, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_parts_of_two_conversions_are_not_mixed(parts, tmp_path):
    first, second = parts[0]
    (tmp_path / "other").mkdir()
    write_file(tmp_path / "other.gguf", edit=lambda w: w.add_tensor("more.weight", np.ones(64, np.float32)))
    other = write_parts(tmp_path / "other", tmp_path / "other.gguf")
    second.write_bytes(other[1].read_bytes())
    with pytest.raises(ValueError, match="parts are not of one conversion"):
        open_gguf(first)
