"""Recipes: `NAME.py` says how the tables and figures of the page `docs/results/NAME.md` are made."""
