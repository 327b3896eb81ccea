"""Devices that need not be there: their mesh, memory, and what a step costs on them."""
