"""Rows of parquet files."""

from collections.abc import Iterator
from pathlib import Path

from stepdistill_jax.tables.errors import TableError
from stepdistill_jax.tables.rows import Row

_BATCH = 1024  # rows in memory


class Parquet:
    """A parquet file: its rows are read at each iteration, some at a time, and numbered from 1."""

    delimiter = None

    def __init__(self, path: Path) -> None:
        """Reads the schema.

        Raises:
          TableError: if it is no parquet file.
        """
        self._path = path
        with self._open() as file:
            self.columns = tuple(file.schema_arrow.names)

    def __iter__(self) -> Iterator[Row]:
        number = 0
        with self._open() as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, values, self._path)

    def _open(self):
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self._path)
        except pyarrow.ArrowException as error:
            raise TableError(f"{self._path}: not a parquet file: {error}.") from None
