"""The nearest name that there is, for an error about one that there is not."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; nearest 'that'", or nothing where nothing is known."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"; nearest '{near[0]}'" if near else ""
