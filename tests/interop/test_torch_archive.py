"""Files of torch.save, made here as torch makes them: a zip with a pickle that names torch's functions, and storages."""

import collections
import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
from huggingface_folders import DTYPES, config_of, tensors_of

from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.interop import convert_from_huggingface
from stepdistill_jax.interop.torch_archive import open_torch_archive

STORAGES = {"float32": "FloatStorage", "bfloat16": "BFloat16Storage", "float16": "HalfStorage"}


@pytest.fixture
def torch_names(monkeypatch):
    """Something by the names of torch's functions, for the pickle to refer to; without torch itself."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*arguments):
        return arguments

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2, torch._utils = _rebuild_tensor_v2, inner
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)
    return torch, _rebuild_tensor_v2


class _Storage:
    def __init__(self, key, kind, count):
        self.pid = ("storage", kind, key, "cpu", count)


class _Tensor:
    def __init__(self, rebuild, storage, offset, shape, strides):
        self.rebuild, self.arguments = (
            rebuild,
            (storage, offset, shape, strides, False, collections.OrderedDict()),
        )

    def __reduce__(self):
        return self.rebuild, self.arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, _Storage) else None


def save(path, value, storages, *, compression=zipfile.ZIP_STORED):
    pickled = io.BytesIO()
    _Pickler(pickled, 2).dump(value)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers.tobytes())
    return path


def save_tensors(path, tensors, torch_names, **arguments):
    torch, rebuild = torch_names
    value = collections.OrderedDict()
    for key, (name, array) in enumerate(tensors.items()):
        storage = _Storage(str(key), getattr(torch, STORAGES[array.dtype.name]), array.size)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        value[name] = _Tensor(rebuild, storage, 0, array.shape, strides)
    return save(path, value, {str(key): array for key, array in enumerate(tensors.values())}, **arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_is_the_same_from_torch_s_file_as_from_safetensors(
    converted, huggingface_folder, torch_names, tmp_path, dtype
):
    _, expected = converted("umt5", dtype=dtype)
    folder = huggingface_folder("umt5", dtype=dtype)
    (folder / "model.safetensors").unlink()
    save_tensors(folder / "pytorch_model.bin", tensors_of(config_of("umt5"), dtype), torch_names)
    model = convert_from_huggingface(folder, tmp_path / "model")
    ours, theirs = (open_checkpoint(m.checkpoint).parameters() for m in (model, expected))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.asarray(ours[name]).tobytes() == np.asarray(theirs[name]).tobytes()


def test_views_of_one_storage_are_read_whole_and_by_rows(torch_names, tmp_path):
    torch, rebuild = torch_names
    numbers = np.arange(60, dtype=np.float32)
    storage = _Storage("0", torch.FloatStorage, 60)
    views = {
        "whole": _Tensor(rebuild, storage, 0, (6, 10), (10, 1)),
        "turned": _Tensor(rebuild, storage, 0, (10, 6), (1, 10)),
        "part": _Tensor(rebuild, storage, 21, (3, 4), (10, 2)),
        "again": _Tensor(rebuild, storage, 0, (6, 10), (10, 1)),
    }
    arrays = open_torch_archive(save(tmp_path / "views.bin", views, {"0": numbers}))
    whole = numbers.reshape(6, 10)
    for name, expected in {"whole": whole, "turned": whole.T, "part": whole[2:5, 1:9:2]}.items():
        np.testing.assert_array_equal(arrays[name].read(), expected)
        np.testing.assert_array_equal(arrays[name].read_rows(1, 3), expected[1:3])
    assert arrays["whole"].source == arrays["again"].source != arrays["turned"].source


class _Harm:
    def __reduce__(self):
        return os.mkdir, ("harm_was_done",)


def test_a_file_that_would_run_something_is_refused_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "bad.bin", {"weight": _Harm()}, {})
    with pytest.raises(ValueError, match=r"names (posix|os|nt)\.mkdir, which is no part of a tensor"):
        open_torch_archive(tmp_path / "bad.bin")
    assert not (tmp_path / "harm_was_done").exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (7, 10), (10, 1)), (-1, (2, 2), (2, 1)), (0, (2, 2), (2,)), (59, (2,), (1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(torch_names, tmp_path, offset, shape, strides):
    torch, rebuild = torch_names
    tensor = _Tensor(rebuild, _Storage("0", torch.FloatStorage, 60), offset, shape, strides)
    save(tmp_path / "bad.bin", {"weight": tensor}, {"0": np.zeros(60, np.float32)})
    with pytest.raises(ValueError, match=r"its data\.pkl is not read"):
        open_torch_archive(tmp_path / "bad.bin")


def test_a_storage_shorter_than_it_says_is_refused(torch_names, tmp_path):
    torch, rebuild = torch_names
    tensor = _Tensor(rebuild, _Storage("0", torch.FloatStorage, 60), 0, (60,), (1,))
    save(tmp_path / "bad.bin", {"weight": tensor}, {"0": np.zeros(50, np.float32)})
    with pytest.raises(ValueError, match="missing, compressed or too short"):
        open_torch_archive(tmp_path / "bad.bin")


def test_a_file_cut_short_or_of_the_older_format_says_so(torch_names, tmp_path):
    path = save_tensors(tmp_path / "model.bin", {"weight": np.ones((4, 4), np.float32)}, torch_names)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="no whole zip archive"):
        open_torch_archive(path)
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(ValueError, match=r"older than 1\.6"):
        open_torch_archive(path)
