"""A cluster, whole for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_nodes import Nodes


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _whole(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let every test find two nodes with a core."""
    yield
    if "nodes" in request.fixturenames:
        made = request.getfixturevalue("nodes")
        made.nodes += [made.add() for _ in range(2 - len(made.nodes))]
        made.settle()
