"""What needs no cluster: the user's code on its way, what a worker does, and which nodes answer."""

from __future__ import annotations

import contextlib
import functools
import pickle
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_toys as toys
import pytest

from lr_gym.cluster import RayCluster, nodes, ship, task
from lr_gym.cluster.stamp import difference, stamp
from lr_gym.cluster.task import Setup
from lr_gym.errors import InvalidArgumentError, LRGymError, MissingPackageError


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", "http://head:80", ""])
def test_addresses_that_make_no_sense(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="--cluster must be auto, local or HOST:PORT of a cluster's head, g"):
        RayCluster(address)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LRGymError, match=r"^--cluster 127\.0\.0\.1:1: nothing answers there \(.*refused\); start the "):
        RayCluster("127.0.0.1:1").__enter__()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r'^--cluster needs the package ray: .* pip install "lr-gym\[ray\]"'):
        RayCluster("local").__enter__()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules of the user's, the only one that this process imports from beside installed packages."""
    for name in ("mine.py", "package/__init__.py", "package/part.py", ".hidden/no.py", "runs/no.py", "env/no.py"):
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text("LR = 1e-3\n")
    (tmp_path / "code/env/pyvenv.cfg").touch()
    (tmp_path / "code/data.csv").touch()
    installed = [entry for entry in sys.path if "site-packages" in entry or entry.startswith(sys.base_prefix)]
    (tmp_path / "empty").mkdir()
    folders = [str(tmp_path / name) for name in ("empty", "code", "missing")]
    monkeypatch.setattr(sys, "path", [*folders, *installed])
    return tmp_path / "code"


def test_code_that_goes_to_nodes(code: Path, tmp_path: Path) -> None:
    """Python files of the user's own; a worker finds them, after what it has itself."""
    ship.gather(tmp_path / "sent")
    sent = tmp_path / "sent" / ship.SHIPPED
    files = {path.relative_to(sent).as_posix() for path in sent.rglob("*") if path.is_file()}
    assert files == {"001/mine.py", "001/package/__init__.py", "001/package/part.py"}
    sys.path[:2] = [str(tmp_path / "sent")]
    assert task.prepare(Setup(stamp(), ("mine", "package.part"))) is None
    assert sys.path[-1] == str(sent / "001")
    for name in ("mine", "package.part", "package"):
        assert Path(str(sys.modules.pop(name).__file__)).is_relative_to(sent)


@pytest.mark.parametrize("limit", ["MOST_FILES", "MOST_BYTES"])
def test_too_much_code(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(ship, limit, 2)
    with pytest.raises(InvalidArgumentError, match=r"/code, from which .* holds more than .* start the command in"):
        ship.gather(tmp_path / "sent")


def answer(call: Any, limit: float | None = None, setup: Setup | None = None) -> Any:
    """Return what a worker answers."""
    return pickle.loads(task.run(setup or Setup(stamp(), ()), pickle.dumps(call), limit))


def test_what_a_worker_answers() -> None:
    assert answer(functools.partial(toys.square, 3)) == ("value", 9)
    kind, error = answer(functools.partial(toys.fail, "no luck"))
    assert (kind, type(error), str(error)) == ("error", ValueError, "no luck")
    kind, error = answer(functools.partial(sys.exit, 3))
    assert (kind, type(error), str(error)) == ("error", RuntimeError, "SystemExit: 3")
    assert answer(functools.partial(toys.sleep, 3600), 0.2) == ("late", None)
    kind, words = answer(toys.die, setup=Setup(stamp(), ("no_such_plugin",)))
    assert (kind, "cannot load the plugin 'no_such_plugin': ModuleNotFoundError" in words) == ("refused", True)
    kind, words = answer(toys.die, setup=Setup((("torch", "1.9"),), ()))
    assert (kind, "in place of 1.9: its records would not be comparable" in words) == ("refused", True)


def test_versions_that_differ() -> None:
    assert difference(stamp(), stamp()) is None
    assert difference((), stamp()[:1]) == "Python None in place of {}.{}".format(*sys.version_info)


@pytest.fixture
def listening() -> Iterator[int]:
    """A port on which somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def node(name: str, port: int, cores: float, alive: bool = True) -> dict[str, Any]:
    address = {"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cores} if cores else {}, **address}


def test_the_emptiest_node_that_answers(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one without cores, nor one that is gone though the cluster still lists it."""
    cluster = [node("head", listening, 0), node("gone", 1, 64), node("dead", listening, 64, False)]
    cluster += [node("small", listening, 2), node("large", listening, 4)]
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(nodes=lambda: cluster))
    taken: dict[str, int] = {}
    for _ in range(6):
        name = nodes.emptiest(taken)
        assert name is not None
        taken[name] = taken.get(name, 0) + 1
    assert taken == {"small": 2, "large": 4}
    del cluster[3:]
    assert nodes.emptiest({}) is None


@pytest.mark.parametrize(("alive", "there", "member"), [(True, True, True), (True, False, False), (False, True, False)])
def test_a_machine_of_the_cluster(
    alive: bool, there: bool, member: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with the socket of a node that lives."""
    listed = types.SimpleNamespace(ALIVE=0, state=int(not alive), raylet_socket_name=str(tmp_path / "socket"))
    client = types.SimpleNamespace(get_all_node_info=lambda timeout: {"id": listed})
    monkeypatch.setitem(sys.modules, "ray._raylet", types.SimpleNamespace(GcsClient=lambda address: client))
    if there:
        (tmp_path / "socket").touch()
    refused = pytest.raises(
        LRGymError, match=r"^this machine does not belong to the cluster head:1; run the command on"
    )
    with contextlib.nullcontext() if member else refused:
        nodes.check_member("head:1")


def test_a_version_of_ray_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray._raylet", types.SimpleNamespace())
    nodes.check_member("head:1")


def test_a_head_that_does_not_answer(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0, 0, 19, 19, 38, 38])
    monkeypatch.setattr(nodes, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))
    there, gone = nodes.Head(f"127.0.0.1:{listening}"), nodes.Head("127.0.0.1:1")
    there.look()
    gone.look()  # not for long enough
    there.look()
    with pytest.raises(LRGymError, match=r"^the head of the cluster, 127\.0\.0\.1:1, does not answer any more; start "):
        gone.look()
    assert (there.gone, gone.gone) == (False, True)
