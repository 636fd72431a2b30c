from __future__ import annotations

import collections
import math
from typing import Any

import pytest
import torch

from lr_gym.errors import InvalidArgumentError, LRGymError, UnknownNameError
from lr_gym.registry import Registry, reference_to, resolve_reference


class Outer:
    class Inner:
        pass

    def method(self) -> None: ...


def function() -> None: ...


@pytest.fixture
def fruit() -> Registry[int]:
    registry: Registry[int] = Registry("fruit", "Grow one with plant(name).")
    for number, name in enumerate(("pear", "apple", "quince")):
        registry.register(name, number)
    return registry


def test_mapping(fruit: Registry[int]) -> None:
    assert list(fruit) == ["pear", "apple", "quince"]
    assert (fruit["pear"], fruit["quince"]) == (0, 2)
    assert "apple" in fruit
    assert "plum" not in fruit
    assert 3 not in fruit


def test_unknown_name_says_what_there_is(fruit: Registry[int]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        fruit["aple"]
    assert str(caught.value) == (
        "no fruit is named 'aple'. Did you mean 'apple'? Known: apple, pear, quince. Grow one with plant(name)."
    )
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, LRGymError)


def test_no_guess_where_nothing_is_near(fruit: Registry[int]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        fruit["zzz"]
    assert str(caught.value) == "no fruit is named 'zzz'. Known: apple, pear, quince. Grow one with plant(name)."
    with pytest.raises(UnknownNameError) as caught:
        Registry[int]("stone")["flint"]
    assert str(caught.value) == "no stone is named 'flint'. Known: none."


def test_duplicates(fruit: Registry[int]) -> None:
    fruit.register("pear", fruit["pear"])  # the same thing again: an import that runs twice
    with pytest.raises(InvalidArgumentError, match=r"the fruit 'pear' is registered already; .* replace=True"):
        fruit.register("pear", 1000)
    assert fruit["pear"] == 0
    fruit.register("pear", 1000, replace=True)
    assert fruit["pear"] == 1000
    fruit.register("plum", 7, replace=True)
    assert fruit["plum"] == 7


def test_equal_is_not_the_same() -> None:
    registry: Registry[list[int]] = Registry("list")
    registry.register("a", [1])
    with pytest.raises(InvalidArgumentError, match="registered already"):
        registry.register("a", [1])


@pytest.mark.parametrize("name", ["", ":", "module:attribute", "a:"])
def test_names_that_are_refused(fruit: Registry[int], name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="a fruit needs a name without a colon, got"):
        fruit.register(name, 1)
    assert len(list(fruit)) == 3


@pytest.mark.parametrize(
    ("thing", "reference"),
    [
        (torch.nn.Linear, "torch.nn.modules.linear:Linear"),
        (collections.OrderedDict, "collections:OrderedDict"),
        (math.sqrt, "math:sqrt"),
        (function, f"{__name__}:function"),
        (Outer.Inner, f"{__name__}:Outer.Inner"),
    ],
)
def test_references_lead_back(thing: Any, reference: str) -> None:
    assert reference_to(thing, "model") == reference
    assert resolve_reference(reference, "model") is thing


def local_function() -> Any:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize("thing", [lambda: 1, local_function(), Outer(), Outer().method, 3, None, torch.nn.ReLU()])
def test_what_no_other_process_could_find(thing: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot be imported by name.*register_model\(name, \.\.\.\)"):
        reference_to(thing, "model")


def test_a_renamed_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another function lies under its name by now: the reference would lead there."""
    original = function
    monkeypatch.setitem(globals(), "function", lambda: None)
    with pytest.raises(InvalidArgumentError, match="cannot be imported by name"):
        reference_to(original, "loss")


@pytest.mark.parametrize(
    "reference", ["no_such_module_anywhere:x", "math:no_such_function", "math", "math:", ":sqrt", ":", "math:sqrt.x"]
)
def test_references_that_lead_nowhere(reference: str) -> None:
    with pytest.raises(UnknownNameError, match=r"the loss reference .* cannot be imported: .*'module:attribute'"):
        resolve_reference(reference, "loss")
