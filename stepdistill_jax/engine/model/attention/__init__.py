"""Attention: plain, by JAX's fused kernels, by Tokamax, by our own kernels for packed rows; and which of them serves."""
