"""Small tables, written by each test as the file in question would be."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Writes a file: `write('a.csv', 'text,label\\n…')`; line ends stay as they are."""

    def write_file(name, content, encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write_file
