"""Ending a trial of a search early."""


class Pruned(Exception):
    """A trial that is not worth its time."""
