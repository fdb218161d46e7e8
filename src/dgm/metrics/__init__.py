"""Measures of a model: features -> statistics -> value, pure functions first; knows no networks, no data sets."""
