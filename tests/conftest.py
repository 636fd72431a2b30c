from __future__ import annotations

import os
from collections.abc import Callable, Iterator

# Before PyTorch is imported; worker processes inherit it. Without it MKL's last digits differ from run to run on some
# processors (AMD's with AVX-512), and tests that compare to the last bit fail.
os.environ.setdefault("MKL_CBWR", "AUTO")

import pytest
import torch
from hypothesis import settings

from lr_gym import tasks
from lr_gym.tasks import data as data_module
from lr_gym.tasks.data import Arrays

torch.set_num_threads(1)
# No deadline: the machine may be busy. The same examples at every run, and nothing written to the disk.
settings.register_profile("lr_gym", deadline=None, derandomize=True, database=None)
settings.load_profile("lr_gym")


@pytest.fixture(scope="session", autouse=True)
def _no_data_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look for data sets in an empty folder, whatever lies on the machine; worker processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LR_GYM_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def register_data() -> Iterator[Callable[[str, Arrays], None]]:
    """Register data sets that are gone again after the test."""
    registered: list[str] = []

    def register(name: str, arrays: Arrays) -> None:
        tasks.register_data(name, lambda: arrays)
        registered.append(name)

    yield register
    for name in registered:
        del data_module.DATA._things[name]
    data_module._load.cache_clear()
