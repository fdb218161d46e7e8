"""Measures of a model: features -> statistics -> value, pure functions first; no networks, no data."""
