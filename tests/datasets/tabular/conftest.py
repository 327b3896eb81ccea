"""Small tables of a shop's tickets."""

import pytest

from stepdistill_jax.datasets.tabular.settings import TableSettings


@pytest.fixture
def write(tmp_path):
    """Writes a file: `write('a.csv', content)`."""

    def write_file(name, content, encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write_file


@pytest.fixture
def settings(tmp_path):
    """Settings of a table 'tickets' with the columns subject, body and queue: `settings(path, seed=1)`."""

    def make(file, **changes):
        usual = {"name": "tickets", "inputs": "{subject}\n{body}", "label": "queue"}
        return TableSettings(file=file, **{**usual, **changes})

    return make
