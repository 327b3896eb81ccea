"""The few shapes of batches that a student is compiled for: texts of any number and length fall into them.

A text's length alone says how far it is padded, so that its neighbours do not. Rows come in powers of 4, and what is left over is
cut into smaller batches rather than filled up: at most a quarter of a batch's rows are padding.
"""

from collections.abc import Iterator, Sequence

_SHORTEST = 16  # tokens
_ROUNDED_TO = 8  # tokens, of the longest
_STEP = 4  # from one number of rows to the next


def lengths_up_to(most_tokens: int) -> tuple[int, ...]:
    """16, 32, 64 … tokens, and at last `most_tokens` rounded up to a multiple of 8."""
    longest = -(-most_tokens // _ROUNDED_TO) * _ROUNDED_TO
    shorter, length = [], _SHORTEST
    while length < longest:
        shorter.append(length)
        length *= 2
    return (*shorter, longest)


def rows_up_to(most_rows: int, multiple: int = 1) -> tuple[int, ...]:
    """`multiple` times 1, 4, 16 …, at most `most_rows`; at least one number of rows.

    Args:
      multiple: devices that a batch is split over.
    """
    numbers = [multiple]
    while numbers[-1] * _STEP <= most_rows:
        numbers.append(numbers[-1] * _STEP)
    return tuple(numbers)


def batches(
    lengths: Sequence[int], shapes: Sequence[int], rows_of: dict[int, tuple[int, ...]]
) -> Iterator[tuple[int, int, list[int]]]:
    """(tokens of a row, rows, which texts) of each batch.

    Args:
      lengths: tokens of each text.
      shapes: lengths that there are, in ascending order; the last holds every text.
      rows_of: length -> numbers of rows that there are, in ascending order.
    """
    places: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        places.setdefault(next(shape for shape in shapes if length <= shape), []).append(place)
    for shape, waiting in sorted(places.items()):
        while waiting:
            rows = _rows_for(len(waiting), rows_of[shape])
            yield shape, rows, waiting[:rows]
            waiting = waiting[rows:]


def _rows_for(num_waiting: int, numbers: Sequence[int]) -> int:
    """The largest number that they fill, at least by three quarters."""
    filled = [rows for rows in numbers if 4 * num_waiting >= 3 * rows]
    return filled[-1] if filled else numbers[0]
