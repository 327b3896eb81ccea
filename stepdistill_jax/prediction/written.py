"""What a student's network writes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Written:
    """An answer that a student has written.

    Attributes:
      tokens: of it, without the end of sequence.
      log_prob: of these tokens and their end, in nats.
      is_cut: whether it has no end within the tokens that it may have.
    """

    tokens: list[int]
    log_prob: float
    is_cut: bool
