"""What is wrong in a gin file is one line: the name, the nearest that there is, file and line."""

import pytest

from stepdistill_jax.base.folder_lock import FolderInUse
from stepdistill_jax.launching import launch

HEAD = "from __gin__ import dynamic_registration\n"
WRONG = {
    "module": ("from t5x import trainr", "No module 't5x.trainr'; nearest 't5x.trainer'."),
    "module not there": (
        "from t5x import export_lib",
        "No module 't5x.export_lib': there is no SavedModel export",
    ),
    "network not there": (
        "from t5x.examples.decoder_only import network",
        "No module 't5x.examples.decoder_only': our decoder-only network is stepdistill_jax.engine.model.llama.",
    ),
    "foreign module": (
        "import a_package_of_ones_own.tasks",
        "No module 'a_package_of_ones_own'; install the package that has it",
    ),
    "configurable": (
        "from t5x import utils\nutils.DatasetConfg.split = 'train'",
        "utils has no 'DatasetConfg'; nearest 'DatasetConfig'.",
    ),
    "configurable not there": (
        "from t5x import optimizers\nOPTIMIZER = @optimizers.amos()",
        "optimizers has no 'amos': any Optax optimizer goes through optimizers.wrap_optax_optimizer.",
    ),
    "method": (
        "from t5x import models\nmodels.EncoderDecoderModel.predict_batchs.rng = 1",
        "models.EncoderDecoderModel has no 'predict_batchs'; nearest 'predict_batch'.",
    ),
    "parameter": (
        "from t5x import utils\nutils.DatasetConfig.splitt = 'train'",
        "utils.DatasetConfig has no parameter 'splitt'; nearest 'split'.",
    ),
    "entry point": (
        "import __main__ as train_script\ntrain_script.trane.eval_period = 1",
        "train_script has no 'trane'; nearest 'train'.",
    ),
    "import left out": (
        "MODEL = @models.EncoderDecoderModel()",
        "'models' is used, but this file does not import it; add: from t5x import models.",
    ),
    "include": (
        "include 't5x/configs/runs/finetun.gin'",
        "No gin file 't5x/configs/runs/finetun.gin' in .*; nearest 't5x/configs/runs/finetune.gin'.",
    ),
    "macro": (
        "from t5x import utils\nutils.CheckpointConfig.save = %SAVES",
        "%SAVES is used, but no gin file binds SAVES; give --gin.SAVES=…",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_name_is_said_with_its_nearest_and_its_place(case, tmp_path):
    text, message = WRONG[case]
    file = tmp_path / "wrong.gin"
    file.write_text(HEAD + text + "\n")
    with pytest.raises(ValueError, match=rf"^{message}.* In {file}, line {1 + len(text.splitlines())}\.$"):
        launch.read_config([str(file)], [])


def test_a_name_in_a_file_without_dynamic_registration_is_said_too(tmp_path):
    file = tmp_path / "old.gin"
    file.write_text("from t5x import trainer\ntrainer.Trainr.num_microbatches = 2\n")
    with pytest.raises(
        ValueError, match=rf"^trainer has no 'Trainr'; nearest 'Trainer'\. In {file}, line 2\.$"
    ):
        launch.read_config([str(file)], [])


def test_a_missing_include_of_an_include_is_placed_where_it_is_included(tmp_path):
    inner, outer = tmp_path / "inner.gin", tmp_path / "outer.gin"
    inner.write_text("include 'nowhere.gin'\n")
    outer.write_text(f"include '{inner}'\n")
    with pytest.raises(ValueError, match=rf"No gin file 'nowhere.gin' in .* In {inner}, line 1\.$"):
        launch.read_config([str(outer)], [])


def test_gin_files_may_call_t5x_s_functions(tmp_path):
    import gin

    file = tmp_path / "functions.gin"
    file.write_text(
        HEAD
        + "from t5x import gin_utils\nSUM = @gin_utils.sum_fn()\ngin_utils.sum_fn:\n  var1 = 1\n  var2 = 2\n"
        "PART = @gin_utils.string_split_fn()\ngin_utils.string_split_fn:\n  text = 'a/b'\n  separator = '/'\n  index = 1\n"
        "IS = @gin_utils.bool_fn()\ngin_utils.bool_fn.var1 = []\n"
    )
    launch.read_config([str(file)], [])
    values = [
        gin.query_parameter(f"{name}/gin.macro.value").scoped_configurable_fn()
        for name in ("SUM", "PART", "IS")
    ]
    assert values == [3, "b", False]


def test_a_binding_means_the_network_that_is_configured_whatever_was_before(tmp_path):
    import gin

    file = tmp_path / "run.gin"
    for network in ("scalable_t5", "t5"):
        file.write_text(
            HEAD + f"from t5x.examples.{network} import network\nnetwork.T5Config.vocab_size = 8\n"
        )
        launch.read_config([str(file)], ["network.T5Config.emb_dim = 16"])
        bound = gin.get_bindings(f"t5x.examples.{network}.network.T5Config")
        assert bound == {"vocab_size": 8, "emb_dim": 16}
    file.write_text(HEAD)
    with pytest.raises(
        ValueError, match=r"'network.T5Config' may be any of t5x.examples.*; give the whole name"
    ):
        launch.read_config([str(file)], ["network.T5Config.emb_dim = 16"])


def raising(error):
    """What `configured` makes of an error of the function that it calls, without the calls behind it."""

    def fail():
        raise error

    with pytest.raises((OSError, type(error))) as caught:
        launch.configured(fail)
    return caught.value


def test_a_full_disk_that_tensorflow_finds_is_one_line():
    import tensorflow as tf

    text = "{{function_node __wrapped__Flush}} /runs/tiny/train/events.out; No space left on device\n\tFailed to flush 9 events"
    full = raising(tf.errors.ResourceExhaustedError(None, None, text))
    assert type(full) is OSError
    assert str(full) == (
        "/runs/tiny/train/events.out can't be written: No space left on device. Make room, then start the same command again."
    )
    other = tf.errors.InvalidArgumentError(None, None, "{{node}} shapes differ")
    assert raising(other) is other


def test_an_owner_of_a_folder_is_not_lost_among_the_other_errors():
    import gin

    @gin.configurable
    def a_function_of_this_test():
        raise FolderInUse("MODEL_DIR runs/tiny is in use")

    with pytest.raises(FolderInUse, match=r"^MODEL_DIR runs/tiny is in use$"):
        launch.configured(a_function_of_this_test)
