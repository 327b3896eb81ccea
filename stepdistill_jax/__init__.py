"""Distilling step-by-step (Hsieh et al., ACL 2023, arXiv:2305.02301) in JAX."""

__version__ = "0.1.0"
