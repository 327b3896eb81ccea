"""What a gin file binds, read without importing what it configures."""

import pytest

from stepdistill_jax.base import gin_bindings

TEXT = """\
from __gin__ import dynamic_registration
from nowhere import utils
RATE = 0.01
utils.DatasetConfig.split = 'train'
infer/utils.DatasetConfig.split = 'test'
utils.Trainer:
  rate = %RATE
  data = @utils.Data()
  lengths = \\
      {'inputs': 8,
       'targets': 4}
"""


def test_scopes_stay_apart_and_macros_are_filled_in_unless_they_are_to_stay(tmp_path):
    file = tmp_path / "config.gin"
    file.write_text(TEXT)
    bound = gin_bindings.read_bindings(file)
    assert bound["DatasetConfig.split"] == "train"
    assert bound["infer/DatasetConfig.split"] == "test"
    assert bound["Trainer.lengths"] == {"inputs": 8, "targets": 4}
    assert (bound["Trainer.rate"], repr(bound["Trainer.data"])) == (0.01, "@utils.Data")
    assert repr(gin_bindings.read_bindings(file, fill_macros=False)["Trainer.rate"]) == "%RATE"


def test_what_is_no_gin_is_named(tmp_path):
    file = tmp_path / "config.gin"
    file.write_text("this is (no gin\n")
    with pytest.raises(ValueError, match=r"config\.gin is no gin file"):
        gin_bindings.read_bindings(file)
