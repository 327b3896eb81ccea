"""The trainer's engine: the part of T5X's public API that T5 students need, on today's JAX, Flax and Optax.

Names, arguments and numbers are T5X's as its gin files see them; `alias.install()` makes `import t5x` give this package.
"""
