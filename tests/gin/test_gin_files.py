"""Every run of gin/ is read, and its model is built in shape only: no weights are made."""

from pathlib import Path

import jax
import numpy as np
import pytest

from stepdistill_jax.launching import launch

ROOT = Path(__file__).resolve().parents[2]
RUN_FILES = sorted(path.name for path in (ROOT / "gin").glob("dsbs_*.gin"))
# Of T5 v1.1 with a 32,128-row vocabulary (Raffel et al. 2020; released_checkpoints.md says 77 M to 11 B); of ours, as
# their own gin files say.
MILLION_PARAMETERS = {
    "dsbs_gemma_3_270m.gin": (268, 269),
    "dsbs_llama_3_2_1b.gin": (1_235, 1_237),
    "dsbs_qwen2_5_0_5b.gin": (493, 495),
    "dsbs_qwen3_0_6b.gin": (595, 597),
    "dsbs_smollm2_135m.gin": (134, 135),
    "dsbs_t5_micro.gin": (0.2, 0.4),
    "dsbs_t5_tiny.gin": (1.4, 1.8),
    "dsbs_t5_mini.gin": (19, 22),
    "dsbs_t5_small.gin": (76, 78),
    "dsbs_t5_base.gin": (247, 249),
    "dsbs_t5_large.gin": (782, 785),
    "dsbs_t5_xl.gin": (2_840, 2_860),
    "dsbs_t5_xxl.gin": (11_100, 11_200),
}


def read(name, *bindings):
    import gin

    text = (ROOT / "gin" / name).read_text(encoding="utf-8")
    required = ["MODEL_DIR = 'run'"]
    if "INITIAL_CHECKPOINT_PATH" in text:
        required.append("INITIAL_CHECKPOINT_PATH = 'checkpoint_1000000'")
    launch.read_config([f"gin/{name}"], [*required, *bindings])
    return gin


def abstract_state(gin):
    from stepdistill_jax.engine.step.initialize import abstract_train_state

    model = gin.get_bindings("train")["model"]
    shapes = {name: (8, 16) for name in model.batch_features(pack=False)}
    return abstract_train_state(model, shapes, {name: np.int32 for name in shapes})


def test_the_parameters_of_every_run_file_are_expected_here():
    assert sorted(MILLION_PARAMETERS) == RUN_FILES


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_run_file_builds_a_model_of_its_size(name):
    from stepdistill_jax.engine.step.initialize import num_parameters

    gin = read(name)
    least, most = MILLION_PARAMETERS[name]
    assert least <= num_parameters(abstract_state(gin)) / 1e6 <= most


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_run_file_names_a_mixture_that_is_registered(name):
    import seqio

    gin = read(name)
    bound = gin.get_bindings("train")
    for cfg in (bound["train_dataset_cfg"], bound["train_eval_dataset_cfg"], bound["infer_eval_dataset_cfg"]):
        provider = seqio.get_mixture_or_task(cfg.mixture_or_task_name)
        assert cfg.split in provider.splits
        assert provider.output_features["targets"].vocabulary == bound["model"].output_vocabulary


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in RUN_FILES
        if "INITIAL_CHECKPOINT_PATH = %gin.REQUIRED" in (ROOT / "gin" / name).read_text()
    ],
)
def test_a_fine_tuning_run_asks_for_its_checkpoint(name):
    with pytest.raises(ValueError, match=r"^INITIAL_CHECKPOINT_PATH is required"):
        launch.read_config([f"gin/{name}"], ["MODEL_DIR = 'run'"])


@pytest.mark.parametrize("dims", [1, 2])
def test_every_array_of_xxl_divides_over_eight_devices(dims):
    from stepdistill_jax.engine.partition import axis_rules, partitioning

    gin = read("dsbs_t5_xxl.gin")
    partitioner = partitioning.PjitPartitioner(
        num_partitions=8,
        logical_axis_rules=axis_rules.standard_logical_axis_rules(parameter_partitioning_dims=dims),
    )
    state = abstract_state(gin)
    axes = partitioner.get_mesh_axes(state)
    sizes = {"data": 4, "model": 8}  # as on 32 devices
    split_bytes = whole_bytes = 0
    for leaf, spec in zip(jax.tree.leaves(state), jax.tree.leaves(axes), strict=True):
        pieces = 1
        for length, axis in zip(leaf.shape, spec, strict=False):
            parts = sizes.get(axis, 1)
            assert length % parts == 0, (leaf.shape, spec)
            pieces *= parts
        split_bytes += leaf.size * leaf.dtype.itemsize / pieces
        whole_bytes += leaf.size * leaf.dtype.itemsize
    # All but norms, position biases and the optimizer's row and column sums is split.
    assert split_bytes < whole_bytes / (8 if dims == 1 else 31) * 1.01


@pytest.mark.parametrize("name", ["eval.gin", "infer.gin", "predict.gin"])
def test_a_file_for_a_finished_run_asks_for_its_checkpoint(name):
    with pytest.raises(ValueError, match=r"is required and has no value|is used, but no gin file binds"):
        launch.read_config([f"gin/{name}"], [])
