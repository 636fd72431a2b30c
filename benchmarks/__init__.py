"""Speed and memory: `uv run python -m benchmarks`."""
