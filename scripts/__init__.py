"""Programs for the people who work on the package; nothing of it is installed.

results/    one file for each page of docs/results: how its tables and figures are made (`python -m scripts.results`)
plugins/    tasks, families and agents of these pages, for `--plugins`
tools/      programs that print or draw what the two commands do not
"""
