"""One file per dataset; importing this package registers them all. A file of your own needs no more than these.

Datasets that `stepdistill prepare` has made of tables, which DATA describes, are registered, too.
"""

from stepdistill_jax import datasets

from . import anli, asdiv, cqa, esnli, svamp, wordproblems

datasets.register_described()

__all__ = ["anli", "asdiv", "cqa", "esnli", "svamp", "wordproblems"]
