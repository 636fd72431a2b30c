"""Words of the command line of `evaluate` -> contestants."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lr_gym import agents, cli
from lr_gym.agents.baselines import USUAL_LR
from lr_gym.agents.ppo.comparison import step_decay
from lr_gym.agents.sb3 import warn_of_pickle
from lr_gym.agents.schedules import StepDecay
from lr_gym.commands.arguments import Evaluate
from lr_gym.control.controller import Controller, is_shipped
from lr_gym.errors import FileFormatError, InvalidArgumentError, guess
from lr_gym.evaluation import Contestant
from lr_gym.files import read_json


@dataclasses.dataclass(frozen=True)
class Contestants:
    """Who is compared, beside what is tuned on each task.

    Attributes:
        everywhere: Those that start from every initial lr.
        own_start: Those with an initial lr of their own.
    """

    everywhere: list[Contestant]
    own_start: list[tuple[Contestant, float]]

    @property
    def names(self) -> list[str]:
        """All names, in order."""
        return [c.name for c in self.everywhere] + [c.name for c, _ in self.own_start]


def read(arguments: Evaluate) -> Contestants:
    """Return the contestants that the command line names.

    Raises:
        LRGymError: A word has no meaning, or a file cannot be read.
    """
    several = len(arguments.controller) > 1
    controllers = [
        _sb3_model(word, several, arguments.allow_pickle) if word.endswith(".zip") else _controller(word, several)
        for word in arguments.controller
    ]
    chosen = [_agent(word) for word in dict.fromkeys(_agent_words(arguments))]
    optimizers = [_optimizer(word) for word in arguments.optimizers]
    return Contestants(controllers + chosen, optimizers + list(_transferred_decays(arguments)))


def _controller(folder: str, several: bool) -> Contestant:
    """Return a controller as a contestant. Those of the package keep their name; several others get their folders'."""
    controller = Controller.load(folder)
    path = Path(folder).resolve()
    own = path.parent.name if path.name == "controller" else path.name
    name = folder if is_shipped(folder) else f"controller {own}" if several else "controller"
    return Contestant(name, {"controller": controller.fingerprint}, controller)


def _sb3_model(file: str, several: bool, allow_pickle: bool) -> Contestant:
    """Return a model of Stable-Baselines3 as a contestant.

    Raises:
        InvalidArgumentError: It is not there, or nobody has said that it may be read.
    """
    if not Path(file).is_file():
        raise InvalidArgumentError(f"--controller {file}: there is no such file")
    if not allow_pickle:
        raise InvalidArgumentError(
            f"--controller {file} is a model of Stable-Baselines3, a pickle, and reading it can run any code; if you "
            "trust where it comes from, add --allow-pickle"
        )
    warn_of_pickle(file)
    model = agents.SB3Agent(file)
    return Contestant(f"controller {Path(file).stem}" if several else "controller", {"sb3": model.fingerprint}, model)


def _agent_words(arguments: Evaluate) -> Iterator[str]:
    """Yield the words of agents, with `all` replaced by the names of all."""
    for word in arguments.agents:
        yield from all_agents() if word == "all" else [word]


def all_agents() -> list[str]:
    """Return the names of all agents but those that need something, as a controller; the reference, constant, first."""
    return sorted((n for n in agents.names() if not agents.needs(n)), key=lambda name: (name != "constant", name))


def _agent(word: str) -> Contestant:
    """Return the agent that a word of the command line means, `name` or `name:option=value,option=value`.

    The option `name` is what its row is called; records do not depend on it.
    """
    name, options = _parts(word)
    row = _row(options, word)
    agent = agents.make(name, **options)
    if isinstance(agent, Controller):
        return Contestant(row, {"controller": agent.fingerprint}, agent)
    learned = {"fingerprint": agent.fingerprint} if hasattr(agent, "fingerprint") else {}  # the file may change
    return Contestant(row, {"agent": name, "options": options} | learned, agent)


def _row(options: dict[str, Any], word: str) -> str:
    """Take `name=...` out of options, and return it: what the row is called; else the word itself.

    Raises:
        InvalidArgumentError: It is empty.
    """
    row = str(options.pop("name", word)).strip()
    if not row:
        raise InvalidArgumentError(f"{word}: name must not be empty")
    return row


def _parts(word: str) -> tuple[str, dict[str, Any]]:
    """Split `name:option=value,option=value`."""
    name, _, rest = word.partition(":")
    pieces = re.split(r",(?=\w+=)", rest) if rest else []  # not at the commas within a list
    try:
        return name, cli.assigned((cli.assignment(piece) for piece in pieces), name)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{word}: {error}") from error


def _optimizer(word: str) -> tuple[Contestant, float]:
    """Return an optimizer in place of the task's, and its learning rate: `name` or `name:lr=x,option=value`.

    The name may be a reference, `module:Class`.
    """
    pieces = word.split(":")
    reference = len(pieces) > 2 and "=" not in pieces[1]
    name, options = _parts(":".join(pieces[1:]) if reference else word)
    name = f"{pieces[0]}:{name}" if reference else name
    row = _row(options, word)
    lr = options.pop("lr", USUAL_LR.get(name))
    if lr is None:
        known = ", ".join(USUAL_LR)
        raise InvalidArgumentError(
            f"--optimizers {word} needs a learning rate, as {name}:lr=1e-3; known without: {known}."
            f"{guess(name, USUAL_LR)}"
        )
    try:
        rate = cli.learning_rate(str(lr))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"--optimizers {word}: lr {error}") from error
    fields = {"optimizer": name, "optimizer_options": options}
    identity = {"agent": "constant", "options": {}}
    return Contestant(row, identity, agents.make("constant"), fields), rate


def _transferred_decays(arguments: Evaluate) -> Iterator[tuple[Contestant, float]]:
    """Yield the step decays that were tuned on the controllers' own tasks, each once."""
    decays = (_best_step_decay(Path(folder)) for folder in arguments.controller)
    for decay in dict.fromkeys(decay for decay in decays if decay is not None):
        yield step_decay(decay, f"transferred step decay ({decay})"), decay.initial_lr


def _best_step_decay(folder: Path) -> StepDecay | None:
    """Return the step decay that was tuned on the controller's own task, if its training run is at hand."""
    run = folder.resolve().parent if folder.resolve().name == "controller" else folder
    results = run / "results.json"
    if not results.is_file():
        return None
    try:
        content = read_json(results)
        if "family_comparison" in content:
            return None  # a family has no step decay of its own
        return StepDecay(**content["comparison"]["best_step_decay"])
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{results} is not the result of a training run: {error}") from error
