"""What a user says about a training loop, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control import ControlSettings
from lr_gym.control.agent import Agent
from lr_gym.control.brake import FACTOR
from lr_gym.control.controller import Controller
from lr_gym.control.final_layer import FinalLayer, making_outputs, named_layer, registered_last
from lr_gym.control.precautions import STARTS
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop.agents import looks_at_validation
from lr_gym.loop.groups import unwrapped
from lr_gym.loop.validate import Validation
from lr_gym.tasks.parameter_free import has_direction

#: Intervals of a training, unless its owner says otherwise: what the package's controllers were trained with.
DECISIONS = 50
#: Updates of an interval, if nobody knows the length of the training nor says this.
FIRST_INTERVAL = 20


def as_optimizers(given: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    """Return one or several optimizers as a list, without what frameworks wrap them in.

    Raises:
        InvalidArgumentError: It is neither.
    """
    several = list(given) if isinstance(given, Sequence) and given else [given]
    optimizers = [one for one in several if isinstance(one, Optimizer)]
    if optimizers != several:
        kinds = ", ".join(type(one).__name__ for one in several)
        raise InvalidArgumentError(f"optimizer must be a torch.optim.Optimizer, or several; got {kinds}")
    return [unwrapped(one) for one in optimizers]


def check_sight(agent: Agent, validate: Any) -> None:
    """Check that an agent gets to see what it looks at.

    Args:
        agent: The agent.
        validate: What evaluates; None where nothing does.

    Raises:
        InvalidArgumentError: `validate` is no function; or a saved controller looks at validation examples, and there
            are none.
    """
    if not (validate is None or callable(validate)):
        raise InvalidArgumentError(
            f"validate must be a function that returns the mean loss and the outputs, got {validate!r}"
        )
    if isinstance(agent, Controller) and looks_at_validation(agent) and validate is None:
        raise InvalidArgumentError(
            "this controller looks at validation losses and predictions: pass validate=lr_gym.validation(model, loss, "
            "x_val, y_val), or a function that returns the mean loss and the outputs; without validation data take "
            "'universal-training-losses'"
        )


def first_guess(decisions: int | None, interval: int | None) -> int:
    """Return how long a training is taken to be at first, if nobody knows: fifty intervals, or a thousand updates.

    A smaller guess costs more: within a hundred updates a controller goes up to learning rates that a longer training
    does not bear, or comes down before it has come far (`docs/results/own-loops.md`).

    Args:
        decisions: Intervals; None for the default.
        interval: Updates of an interval; None if it is not given.
    """
    for name, value in (("decisions", decisions), ("decision_interval", interval)):
        if value is not None:
            check_whole(name, value)
    return FIRST_INTERVAL * (decisions or DECISIONS) if interval is None else DECISIONS * interval


def intervals(agent: Agent, total: int | None, decisions: int | None, interval: int | None) -> tuple[int | None, float]:
    """Return the number of intervals, None where their length was given, and the updates of one.

    Args:
        agent: Who decides.
        total: Updates of the whole training; None if not known.
        decisions: Intervals; None for the default.
        interval: Updates of an interval, in place of `decisions`.

    Raises:
        InvalidArgumentError: They do not fit together.
    """
    if decisions is not None and interval is not None:
        raise InvalidArgumentError("decisions and decision_interval say the same thing: pass one of them")
    for name, value in (("total_updates", total), ("decisions", decisions), ("decision_interval", interval)):
        if value is not None:
            check_whole(name, value)
    if total is None and interval is None:
        raise InvalidArgumentError(
            "total_updates is needed: how many updates the whole training has, for instance len(loader) * epochs. An "
            "agent that does not look at the length can do without, with decision_interval="
        )
    if total is None or interval is not None:
        assert interval is not None  # nothing else is left
        return None, float(interval)
    number = min(DECISIONS if decisions is None else int(decisions), int(total))
    return number, total / number


def bounds(settings: ControlSettings, lr: float, low: float | None, high: float | None) -> tuple[float, float]:
    """Return the bounds of the learning rate.

    Args:
        settings: Of the agent; its bounds are the default.
        lr: The optimizer's learning rate.
        low: The lower bound; None for the agent's.
        high: The upper bound; None for the agent's.

    Raises:
        InvalidArgumentError: They make no sense, or the optimizer's learning rate is outside.
    """
    low, high = settings.min_lr if low is None else low, settings.max_lr if high is None else high
    check_number("max_lr", high, 0, 3e38, low_open=True)
    check_number("min_lr", low, 0, high, low_open=True, high_open=True)
    settings.check_lr(lr, "the optimizer's learning rate")
    if not low <= lr <= high:
        raise InvalidArgumentError(
            f"the optimizer's learning rate {lr:g} must lie in [min_lr, max_lr] = [{low:g}, {high:g}]"
        )
    return low, high


def known_model(model: nn.Module | None, validate: Any, **needing: bool) -> nn.Module | None:
    """Return the network, or None if it is not known.

    Args:
        model: As it was given; None for the one that `validate` was made for.
        validate: What evaluates.
        **needing: Options that need the network, and whether they are wanted.

    Raises:
        InvalidArgumentError: One of them is wanted, and the network is not known.
    """
    if model is None and isinstance(validate, Validation):
        model = validate.model
    for name, wanted in needing.items():
        if wanted and model is None:
            raise InvalidArgumentError(
                f"{name}=True needs the network: pass model=, or validate=lr_gym.validation(model, ...)"
            )
    return model


def brake_factor(brake: bool | float, agent: Agent, looks_for_start: bool) -> float:
    """Return the factor of the brake, infinite where there is none.

    Args:
        brake: A factor; True for the default, which holds back saved controllers only; False for none.
        agent: The agent that it is to hold back.
        looks_for_start: Whether the training starts where its edge says. A controller that was made for this may have a
            factor of its own, which is too small for a climb from far below.

    Raises:
        InvalidArgumentError: The factor is less than 1.
    """
    if isinstance(brake, bool):
        if not (brake and isinstance(agent, Controller)):
            return math.inf
        own = agent.description.brake
        return own if looks_for_start and own is not None else FACTOR
    check_number("brake", brake, 1, high_open=True)
    return float(brake)


def looks_for_start(
    start: str | None, agent: Agent, validate: Any, restore: bool, optimizers: Sequence[Optimizer]
) -> bool:
    """Return whether the start of a training is to be looked for.

    Args:
        start: What its owner says; None for what a saved controller was made for.
        agent: Who decides.
        validate: What evaluates.
        restore: Whether weights may be touched, and are kept.
        optimizers: Their updates must be multiples of the learning rate.

    Raises:
        InvalidArgumentError: It is to be looked for, and cannot.
    """
    straight = all(map(has_direction, optimizers))
    if start is None:
        wanted = isinstance(agent, Controller) and agent.description.start == "probe"
        return wanted and restore and validate is not None and straight
    check_choice("start", start, STARTS)
    if start == "probe" and not (restore and validate is not None):
        raise InvalidArgumentError(
            "start='probe' tries the first update at other learning rates, and so needs restore=True, which allows "
            "to touch the weights, and validate="
        )
    if start == "probe" and not straight:
        raise InvalidArgumentError(
            "start='probe' needs an optimizer whose updates are multiples of the learning rate, got "
            f"{', '.join(type(one).__name__ for one in optimizers)}; leave start='given'"
        )
    return start == "probe"


def observed_weight(
    final_layer: str | Tensor | None, model: nn.Module | None, validate: Any, agent: Agent
) -> Callable[[], Tensor] | None:
    """Return what returns the weights of the final layer as they are used now; None where nobody observes them.

    Args:
        final_layer: The weights, or the layer's name; None for the layer that makes the outputs of `validate`,
            or, where that shows nothing, the last dense layer of the model.
        model: The network; None where nobody knows it.
        validate: What evaluates.
        agent: Who observes.

    Raises:
        InvalidArgumentError: There is no such layer, or the agent observes it and it is not known which it is.
    """
    if isinstance(final_layer, Tensor):
        return lambda: final_layer
    if model is not None and final_layer is not None:
        return named_layer(model, final_layer).weight
    if model is not None:
        seen = isinstance(validate, Validation) and validate.model is model
        name = making_outputs(model, validate.some_outputs) if seen else None
        return (registered_last(model) if name is None else FinalLayer(model, name)).weight
    if final_layer is not None:
        raise InvalidArgumentError("final_layer by name needs model=; or pass the layer's weights")
    if isinstance(agent, Controller) and agent.description.settings.observation == "absolute":
        raise InvalidArgumentError("this controller observes the final layer: pass its weights as final_layer=")
    return None
