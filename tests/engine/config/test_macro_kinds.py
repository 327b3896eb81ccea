"""A macro that is a number in the gin files stays one on the command line; NUM_MICROBATCHES and EVAL_BATCH_SIZE also take 'auto'."""

import pytest

from stepdistill_jax.launching import launch

REQUIRED = ("MODEL_DIR = 'run'", "INITIAL_CHECKPOINT_PATH = 'checkpoint'")


def test_a_number_of_microbatches_may_become_auto_and_auto_a_number():
    import gin

    launch.read_config(["gin/dsbs_t5_xxl.gin"], [*REQUIRED, "NUM_MICROBATCHES = 'auto'"])
    assert gin.query_parameter("%NUM_MICROBATCHES") == "auto"
    files = ["gin/dsbs_t5_base.gin", "gin/meshes/one_device.gin"]
    launch.read_config(files, REQUIRED)
    assert gin.query_parameter("%NUM_MICROBATCHES") == "auto"
    launch.read_config(files, [*REQUIRED, "NUM_MICROBATCHES = 16"])
    assert gin.query_parameter("%NUM_MICROBATCHES") == 16
    launch.read_config(files[:1], [*REQUIRED, "EVAL_BATCH_SIZE = 'auto'"])
    assert gin.query_parameter("%EVAL_BATCH_SIZE") == "auto"


@pytest.mark.parametrize(
    ("binding", "mend"),
    [
        ("NUM_MICROBATCHES = 'all'", "NUM_MICROBATCHES = 'all': give a number or 'auto', as 8 is"),
        ("EVAL_BATCH_SIZE = 'all'", "EVAL_BATCH_SIZE = 'all': give a number or 'auto', as 64 is"),
        ("BATCH_SIZE = 'auto'", "BATCH_SIZE = 'auto': give a number, as 32 is"),
    ],
)
def test_another_word_is_none(binding, mend):
    with pytest.raises(ValueError, match=f"^{mend}, which the gin files have"):
        launch.read_config(["gin/dsbs_t5_xxl.gin"], [*REQUIRED, binding])
