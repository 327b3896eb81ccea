"""Distilling step-by-step (Hsieh et al., ACL 2023, arXiv:2305.02301) in JAX."""

from stepdistill_jax.base.version import __version__

__all__ = ["__version__"]
