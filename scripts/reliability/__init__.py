"""Faults that are tried on lr_gym, and the table of docs/reliability.md that says how many were survived."""
