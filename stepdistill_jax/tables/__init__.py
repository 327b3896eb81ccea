"""Tables as people have them, in csv, tsv, txt, jsonl, json and parquet files: rows with their lines, and rows written again.

A text is what the file says: nothing is trimmed, no cell that reads 'NA' or '007' is taken for anything else.
"""

from stepdistill_jax.tables.errors import TableError
from stepdistill_jax.tables.inputs import Inputs
from stepdistill_jax.tables.reading import Table, looks_like_table, open_table
from stepdistill_jax.tables.rows import Row
from stepdistill_jax.tables.values import text_of
from stepdistill_jax.tables.writing import RowWriter, check_cells

__all__ = [
    "Inputs",
    "Row",
    "RowWriter",
    "Table",
    "TableError",
    "check_cells",
    "looks_like_table",
    "open_table",
    "text_of",
]
