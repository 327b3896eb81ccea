"""T5X's include paths, from our own files: each is read, and gives T5X's numbers."""

import os
import re
import sys
import types
from pathlib import Path

import pytest

from stepdistill_jax.launching import launch

ROOT = Path(__file__).resolve().parents[2] / "gin" / "t5x"
RUNS = sorted(path.name for path in (ROOT / "configs" / "runs").glob("*.gin"))
# (emb_dim, num_heads, encoder layers, decoder layers, head_dim, mlp_dim) as T5X's files of these names have them.
SIZES_1_1 = {
    "small": (512, 6, 8, 8, 64, 1024),
    "base": (768, 12, 12, 12, 64, 2048),
    "large": (1024, 16, 24, 24, 64, 2816),
    "xl": (2048, 32, 24, 24, 64, 5120),
    "xxl": (4096, 64, 24, 24, 64, 10240),
}
TINY = (8, 4, 2, 2, 3, 16)
SIZES = {
    "t5/t5_1_0": {
        "tiny": TINY,
        "small": (512, 8, 6, 6, 64, 2048),
        "base": (768, 12, 12, 12, 64, 3072),
        "large": (1024, 16, 24, 24, 64, 4096),
        "3B": (1024, 32, 24, 24, 128, 16384),
        "11B": (1024, 128, 24, 24, 128, 65536),
    },
    "t5/t5_1_1": {"tiny": TINY, **SIZES_1_1},
    "t5/mt5": {"tiny": TINY, **SIZES_1_1},
    "t5/byt5": {
        "tiny": TINY,
        "small": (1472, 6, 12, 4, 64, 3584),
        "base": (1536, 12, 18, 6, 64, 3968),
        "large": (1536, 16, 36, 12, 64, 3840),
        "xl": (2560, 32, 36, 12, 64, 6720),
        "xxl": (4672, 64, 36, 12, 64, 12352),
    },
    "scalable_t5/t5_1_1": SIZES_1_1,
    "scalable_t5/mt5": SIZES_1_1,
}
MODELS = [(family, size) for family, sizes in SIZES.items() for size in sizes]
REQUIRED = {
    "MODEL_DIR": "'run'",
    "MIXTURE_OR_TASK_NAME": "'svamp_label'",
    "TASK_FEATURE_LENGTHS": "{'inputs': 32, 'targets': 8}",
    "TRAIN_STEPS": "1",
    "INITIAL_CHECKPOINT_PATH": "'checkpoint_1000000'",
    "CHECKPOINT_PATH": "'checkpoint_1000000'",
    "EVAL_OUTPUT_DIR": "'out'",
    "INFER_OUTPUT_DIR": "'out'",
    "TF_EXAMPLE_FILE_PATHS": "['examples.tfrecord']",
    "TF_EXAMPLE_FILE_TYPE": "'tfrecord'",
    "FEATURE_LENGTHS": "{'inputs': 32, 'targets': 8}",
    "TRAIN_EVAL_MIXTURE_OR_TASK_NAME": "'svamp_label'",
    "DROPOUT_RATE": "0.0",
    "VOCAB_SIZE": "384",
}


def read(*lines, bindings=(), folder):
    import gin

    file = folder / "user.gin"
    file.write_text("from __gin__ import dynamic_registration\n" + "\n".join(lines) + "\n")
    launch.read_config([str(file)], list(bindings))
    return gin


def bound(text, *, but=()):
    return [f"{name} = {value}" for name, value in REQUIRED.items() if f"{name} = " in text or name in but]


def text_of(include):
    """A gin file of ours and what it includes."""
    folder = ROOT if include.startswith("t5x/") else ROOT.parents[1]
    text = (folder / include.removeprefix("t5x/")).read_text(encoding="utf-8")
    inner = [line.split("'")[1] for line in text.splitlines() if line.startswith("include ")]
    return text + "".join(map(text_of, inner))


@pytest.mark.parametrize(("family", "size"), MODELS)
def test_a_model_file_gives_t5x_s_sizes(family, size, tmp_path):
    gin = read(f"include 't5x/examples/{family}/{size}.gin'", "DROPOUT_RATE = 0.0", folder=tmp_path)
    config = gin.get_bindings("EncoderDecoderModel")["module"].config
    shape = (
        config.emb_dim, config.num_heads, config.num_encoder_layers, config.num_decoder_layers, config.head_dim,
        config.mlp_dim,
    )  # fmt: skip
    assert shape == SIZES[family][size]
    is_v1_0 = family == "t5/t5_1_0" and size != "tiny"
    assert config.logits_via_embedding == is_v1_0
    assert config.mlp_activations == (("relu",) if is_v1_0 else ("gelu", "linear"))
    assert config.dtype == "bfloat16"
    rows = {"t5/mt5": 250112, "scalable_t5/mt5": 250112, "t5/byt5": 384}
    assert config.vocab_size == (32128 if size == "tiny" else rows.get(family, 32128))
    assert bool(config.scan_layers) == family.startswith("scalable_t5")


def test_a_user_s_binding_of_a_model_file_wins(tmp_path):
    gin = read(
        "from t5x import models",
        "from t5x.examples.scalable_t5 import network",
        "include 't5x/examples/scalable_t5/t5_1_1/base.gin'",
        "network.T5Config.emb_dim = 16",
        "DROPOUT_RATE = 0.1",
        "LOSS_NORMALIZING_FACTOR = 'NUM_REAL_TARGET_TOKENS'",
        "models.EncoderDecoderModel.predict_batch_with_aux.num_decodes = 4",
        folder=tmp_path,
    )
    model = gin.get_bindings("EncoderDecoderModel")
    assert (model["module"].config.emb_dim, model["module"].config.dropout_rate) == (16, 0.1)
    assert model["loss_normalizing_factor"] == "NUM_REAL_TARGET_TOKENS"


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("model_first", [True, False])
def test_a_run_file_is_read_with_its_required_macros(name, model_first, tmp_path):
    include = f"t5x/configs/runs/{name}"
    files = ["include 't5x/examples/t5/t5_1_1/tiny.gin'", f"include '{include}'"]
    gin = read(
        *(files if model_first else files[::-1]),
        *bound(text_of(include), but=("DROPOUT_RATE",)),
        folder=tmp_path,
    )
    assert "network.T5Config:" in gin.config_str() or "T5Config." in gin.config_str()


@pytest.mark.parametrize("run", ["finetuning_common", "pretraining_common"])
def test_umt5_s_files_are_read_together(run, tmp_path):
    umt5 = "t5x/examples/scalable_t5/umt5"
    includes = (
        "t5x/examples/scalable_t5/mt5/small.gin",
        f"{umt5}/architectures/encoder_decoder.gin",
        f"{umt5}/runs/{run}.gin",
        f"{umt5}/optimizer/adafactor_momentum_nofactor.gin",
        f"{umt5}/vocab.gin",
    )
    needed = {"MODEL_DIR", "MIXTURE_OR_TASK_NAME", "TRAIN_STEPS", "TASK_FEATURE_LENGTHS"}
    needed |= (
        {"INITIAL_CHECKPOINT_PATH"} if run == "finetuning_common" else {"TRAIN_EVAL_MIXTURE_OR_TASK_NAME"}
    )
    gin = read(
        *(f"include '{include}'" for include in includes),
        *(f"{name} = {REQUIRED[name]}" for name in sorted(needed)),
        folder=tmp_path,
    )
    model = gin.get_bindings("EncoderDecoderModel")
    assert model["module"].config.vocab_size == 256384
    assert model["optimizer_def"].hyper_params.beta1 == 0.9


def t5x_examples():
    """The example runs of a T5X clone, where $T5X_SOURCE names one (more trees may follow, after colons)."""
    source = os.environ.get("T5X_SOURCE")
    if not source:
        return [
            pytest.param(
                None, marks=pytest.mark.skip(reason="set T5X_SOURCE to a clone of T5X to read its examples")
            )
        ]
    examples = Path(source.split(os.pathsep)[0]) / "t5x" / "examples"
    return sorted(
        str(path)
        for path in [*examples.glob("t5/*/examples/*.gin"), *examples.glob("scalable_t5/*/examples/*.gin")]
    )


@pytest.mark.parametrize("path", t5x_examples())
def test_an_example_of_t5x_is_read_unchanged(path, monkeypatch):
    for name in (
        "t5",
        "t5.data",
        "t5.data.mixtures",
    ):  # T5's own tasks: a package that need not be installed here
        module = types.ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    bindings = []
    for _ in REQUIRED:
        try:
            launch.read_config([path], bindings)
        except ValueError as error:
            # An example leaves some macros to its user: gin names one at a time.
            (name,) = re.findall(r"^%?([A-Z_]+) is (?:required|used)", str(error)) or pytest.fail(str(error))
            bindings.append(f"{name} = {REQUIRED[name]}")
        else:
            return
    pytest.fail(f"{path} still asks for a macro, with {bindings}")


def test_the_rows_of_an_embedding_may_be_worked_out_in_gin(tmp_path):
    gin = read(
        "import seqio",
        "from t5x import utils",
        "from t5x.examples.t5 import network",
        "include 't5x/examples/t5/byt5/small.gin'",
        "DROPOUT_RATE = 0.0",
        "network.T5Config.vocab_size = @utils.round_vocab_size_to_multiple()",
        "utils.round_vocab_size_to_multiple:",
        "  vocabulary = %VOCABULARY",
        "  divisor = 256",
        folder=tmp_path,
    )
    # 256 bytes, 3 special ids and 100 sentinels.
    assert gin.get_bindings("EncoderDecoderModel")["module"].config.vocab_size == 512
