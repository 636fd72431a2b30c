"""`list`: what is here to train, to compare and to load."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from lr_gym import agents, cli, progress, tasks
from lr_gym.agents.base import AGENTS
from lr_gym.commands import plugins
from lr_gym.commands.arguments import List
from lr_gym.commands.screen import print_table
from lr_gym.control.controller import CONFIG_FILE, SHIPPED, shipped
from lr_gym.control.description import LATER
from lr_gym.control.settings import observation_kind
from lr_gym.errors import LRGymError
from lr_gym.files import read_json
from lr_gym.tasks import TaskFamily, sources
from lr_gym.tasks.data import DATA

#: What is listed: a row for each thing, with its facts by name.
Rows = list[dict[str, Any]]


def run(arguments: List, parser: cli.Parser) -> None:
    """Print a list.

    Raises:
        SystemExit: The arguments make no sense.
    """
    try:
        if arguments.data is not None:
            cli.use_data_root(arguments.data)
        plugins.load(arguments.plugins, lambda line: print(f"{parser.prog}: warning: {line}", file=sys.stderr))
    except LRGymError as error:
        parser.error(str(error))
    lists = {title: rows() for title, rows in LISTS[arguments.what].items()}
    if arguments.json:
        print(json.dumps(lists, indent=2))
        return
    console = progress.console()
    for title, rows in lists.items():
        print_table(rows, title, console)


def task_rows() -> Rows:
    """Return the tasks, with the fields that tell them apart."""
    found = ((name, tasks.find(name)) for name in tasks.names())
    return [
        {
            "task": name,
            "data": task.data,
            "model": task.model,
            "optimizer": task.optimizer,
            "budget": task.budget,
            "batch_size": task.batch_size,
            "decision_interval": task.decision_interval,
            "initial_lrs": list(task.initial_lrs),
        }
        for name, task in found
        if not isinstance(task, TaskFamily)
    ]


def family_rows() -> Rows:
    """Return the families of tasks, with all values that a field may have."""
    found = ((name, tasks.find(name)) for name in tasks.names())
    return [
        {
            "family": name,
            "data": family.values("data"),
            "model": family.values("model"),
            "optimizer": family.values("optimizer"),
            "budget": sorted(family.values("budget")),
            "batch_size": sorted(family.values("batch_size")),
            "decision_interval": sorted(family.values("decision_interval")),
            "initial_lr_range": list(family.initial_lr_ends),
        }
        for name, family in found
        if isinstance(family, TaskFamily)
    ]


def agent_rows() -> Rows:
    """Return the agents: what each does, where it comes from, what it needs."""
    return [
        {
            "agent": name,
            "what_it_does": _first_line(AGENTS[name]),
            "source": _source(AGENTS[name]),
            "looks_ahead": _looks_ahead(name),
            "needs": ", ".join(agents.needs(name)) or None,
        }
        for name in agents.names()
    ]


def _first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def _source(factory: Callable[..., Any]) -> str | None:
    """Return the paper of an agent with a module of its own: the first of two paragraphs there that names a year."""
    if not inspect.isclass(factory):
        return None  # its module holds several agents; the agent's own docstring names the paper
    paragraphs = (inspect.getdoc(inspect.getmodule(factory)) or "").split("\n\n")[:2]
    found = (" ".join(paragraph.split()) for paragraph in paragraphs)
    return next((paragraph for paragraph in found if re.search(r"\b(19|20)\d\d\b", paragraph)), None)


def _looks_ahead(name: str) -> str | None:
    """Return what an agent with default options looks ahead for."""
    if agents.needs(name):
        return None
    try:
        return getattr(agents.make(name), "looks_ahead", None) or None
    except Exception:  # somebody's agent that cannot be made here: a list goes on
        return None


def controller_rows() -> Rows:
    """Return the controllers of the package, with the main facts of their cards."""
    return [{"controller": name} | _card(read_json(SHIPPED / name / CONFIG_FILE)) for name in shipped()]


def _card(description: dict[str, Any]) -> dict[str, Any]:
    about = description["provenance"]
    settings = about.get("settings", {})
    return {
        "trained_on": settings.get("task", {}).get("name"),
        "episodes": settings.get("episodes"),
        "observation": f"{observation_kind(tuple(description['features']))}, {len(description['features'])} numbers",
        "action": f"{description['action']}, up to x{description['max_multiplier']:g}",
        "precautions": ", ".join(f"{name}={description[name]}" for name in LATER if name in description) or None,
        "network": f"{description['actor']}, {description['hidden_size']} units",
        "commit": about.get("commit"),
        "command": about.get("command"),
    }


def data_rows() -> Rows:
    """Return the data sets: where each is, and what to do if it is missing. Nothing is read."""
    return [_data_row(name) for name in tasks.data_names()]


def _data_row(name: str) -> dict[str, Any]:
    if name in DATA:
        return {"data": name, "found": True, "where": "made by a program that is registered", "what_to_do": None}
    root = sources.data_root()
    place = next((place for place in sources.places(name, root) if place.there), None)
    if place is not None:
        return {"data": name, "found": True, "where": place.words, "what_to_do": None}
    advice = (
        f"the first use downloads it to {root} if there is a network; without one, put {name}.npz or torchvision's "
        "files there, or name the folder that holds them with LR_GYM_DATA or --data"
    )
    return {"data": name, "found": False, "where": None, "what_to_do": advice}


#: The tables of every list, by title.
LISTS: dict[str, dict[str, Callable[[], Rows]]] = {
    "tasks": {"tasks": task_rows, "families": family_rows},
    "agents": {"agents": agent_rows},
    "controllers": {"controllers": controller_rows},
    "data": {"data": data_rows},
}
