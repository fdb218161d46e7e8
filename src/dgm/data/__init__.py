"""Data sets and the one data module that serves them a batch at a time; nothing here knows a model."""
