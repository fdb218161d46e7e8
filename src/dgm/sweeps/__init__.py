"""Launchers and search, behind Hydra's own plugin interfaces."""
