"""The commands: words of a command line become calls. The only room that knows the agents.

`arguments` holds the options of every command and `main` the list of them; both are quick to load, so that `--help` is.
"""
