"""The confidence interval of a share."""

import math

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson_interval(num_correct: int, num_examples: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of num_correct / num_examples, in percent; 95 % by default.

    Unlike p ± z sqrt(p(1 - p)/n) it stays within 0 and 100, and is no point where nothing or everything is right
    (Wilson 1927; Brown, Cai and DasGupta 2001 recommend it for small n).
    """
    p, n = num_correct / num_examples, num_examples
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Where nothing or everything is right the bound is p itself, and rounding must not put it on the other side.
    return 100 * max(0.0, min(p, centre - half)), 100 * min(1.0, max(p, centre + half))
