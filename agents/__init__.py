"""Agents that set learning rates, by name: `agents.make("cosine")`, `agents.make("ppo", controller=PATH)`.

The folder `agents/` at the top level of a checkout is the package `lr_gym.agents`: `lr_gym/agents` is a link to it, and
a wheel holds it there only. `import agents` goes on working in a checkout, and gives the same modules.
"""

from pathlib import Path

if __name__ == "agents":  # `import agents` in a checkout
    from lr_gym.alias import alias

    alias("agents", "lr_gym.agents")
else:
    from lr_gym import stopping

    stopping.listen_early()  # what follows takes seconds: PyTorch is loaded

    from lr_gym.agents import (
        adalrs,
        alr,
        arc,
        arc_controls,
        autolr,
        greedy,
        jump,
        kim_yu,
        line_search,
        one_cycle,
        playback,
        range_cosine,
        recipe,
        sb3,
        schedules,
        shuffled,
        wsd,
    )
    from lr_gym.agents.base import AGENTS, FixedAgent, PeriodicAgent, make, names, needs, register
    from lr_gym.agents.sb3 import SB3Agent
    from lr_gym.agents.schedules import ScheduleAgent
    from lr_gym.control import Controller, FunctionAgent

    __all__ = [
        "FixedAgent",
        "FunctionAgent",
        "PeriodicAgent",
        "SB3Agent",
        "ScheduleAgent",
        "adalrs",
        "alr",
        "arc",
        "arc_controls",
        "autolr",
        "greedy",
        "jump",
        "kim_yu",
        "line_search",
        "make",
        "names",
        "needs",
        "one_cycle",
        "playback",
        "range_cosine",
        "recipe",
        "register",
        "sb3",
        "schedules",
        "shuffled",
        "wsd",
    ]

    def _ppo(controller: str | Path) -> Controller:
        """Return a trained controller: by its folder, its training run's folder, or its name in the package."""
        return Controller.load(controller)

    AGENTS.register("ppo", _ppo)
