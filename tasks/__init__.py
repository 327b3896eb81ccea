"""One file per dataset; importing this package registers them all. A file of your own needs no more than these."""

from . import anli, asdiv, cqa, esnli, svamp, wordproblems

__all__ = ["anli", "asdiv", "cqa", "esnli", "svamp", "wordproblems"]
