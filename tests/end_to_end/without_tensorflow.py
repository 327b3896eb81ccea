"""Makes TensorFlow, SeqIO and what needs them look as if they were not installed; run as a script, it then runs another.

`python tests/without_tensorflow.py SCRIPT ARGUMENTS`
"""

import runpy
import sys

ABSENT = ("tensorflow", "tensorflow_datasets", "tensorflow_text", "tf_keras", "seqio")


def _is_absent(name: str) -> bool:
    return name.partition(".")[0] in ABSENT or name.startswith("clu.metric_writers")


class _Without:
    """A finder that does not find them."""

    def __init__(self, finder) -> None:
        self._finder = finder

    def find_spec(self, name, *args, **kwargs):
        return None if _is_absent(name) else self._finder.find_spec(name, *args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._finder, name)


if __name__ == "__main__":
    sys.meta_path[:] = [_Without(finder) for finder in sys.meta_path]
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    loaded = sorted(name for name in sys.modules if _is_absent(name))
    assert not loaded, loaded
