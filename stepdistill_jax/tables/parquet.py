"""Rows of parquet files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stepdistill_jax.tables.errors import TableError, check_names
from stepdistill_jax.tables.rows import Row
from stepdistill_jax.tables.text_files import is_packed

_BATCH = 1024  # rows in memory


class Parquet:
    """A parquet file: its rows are read at each iteration, some at a time, and numbered from 1."""

    delimiter = None

    def __init__(self, path: Path) -> None:
        """Reads the schema.

        Raises:
          TableError: if it is no parquet file, or a packed one, or names two columns alike.
        """
        self._path = path
        if is_packed(path):
            raise TableError(
                f"{path}: packed by gzip, and a parquet file is not read through that; unpack it."
            )
        with self._errors("not a parquet file"), self._open() as file:
            self.columns = tuple(file.schema_arrow.names)
        check_names(path, self.columns, "the file")

    def __iter__(self) -> Iterator[Row]:
        number = 0
        with self._errors("not a parquet file"):
            file = self._open()
        with file:
            batches = file.iter_batches(batch_size=_BATCH)
            while True:
                with self._errors(f"damaged behind row {number:,}"):
                    batch = next(batches, None)
                    rows = [] if batch is None else batch.to_pylist()
                if batch is None:
                    return
                for values in rows:
                    number += 1
                    yield Row(number, values, self._path)

    def _open(self):
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(self._path)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """pyarrow's errors, and those of texts that are not UTF-8, with the file's name."""
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            if isinstance(error, FileNotFoundError | IsADirectoryError):
                raise
            raise TableError(f"{self._path}: {what}: {str(error).rstrip('.')}.") from None
