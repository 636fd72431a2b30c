"""What holds for every agent of the registry, on every kind of task."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys

from lr_gym import LRTrainingEnv, TaskFamily, agents, rollout, tasks
from lr_gym.errors import EpisodeError, InvalidArgumentError, LookAheadError
from lr_gym.evaluation import Rollout
from lr_gym.tasks import Task

for _name, _load in {"classes": toys.table, "line": lambda: toys.table(targets=2), "images": toys.images}.items():
    tasks.register_data(f"conformance {_name}", _load, replace=True)


def task(data: str = "classes", **fields: Any) -> Task:
    """Return three decisions of a very small network; an epoch has six updates."""
    values = {"model": "mlp", "model_options": {"width": 4}, "batch_size": 8, "budget": 16, "decision_interval": 4}
    return Task(**(values | {"name": "toy", "data": f"conformance {data}", "initial_lrs": (0.01,)} | fields))


#: Every agent as it comes, and settings that take other paths through the code.
NEEDED: dict[str, dict[str, Any]] = {
    "ppo": {"controller": "universal-v1"},
    "playback": {"rates": [0.02, 0.01, 0.005]},
    "shuffled": {"controller": "universal-v1", "observations": np.linspace(-1, 1, 216).reshape(2, 9, 12)},
}
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, NEEDED.get(name, {})) for name in agents.names() if name != "sb3"},  # which reads a file
    "one-cycle to a peak": ("one-cycle", {"peak_lr": 0.01}),
    "one-cycle to the initial lr": ("one-cycle", {"peak_lr": "initial", "rise": 0.4, "start_factor": 5.0}),
    "one-cycle to a usual peak": ("one-cycle", {"peak_lr": "usual", "peak_factor": 3.0}),
    "plateau on the training loss": ("plateau", {"patience": 0, "factor": 0.3, "metric": "train_loss"}),
    "greedy, smoothed": ("greedy", {"factor": 0.7, "patience": 0, "smoothing": 3, "cooldown": 2, "reset_after": 2}),
    "greedy on the validation loss": ("greedy", {"patience": 0, "metric": "val_loss"}),
    "line-search along the gradient": ("line-search", {"direction": "gradient", "initial": None, "max_tries": 7}),
    "kim-yu with 7 factors": ("kim-yu", {"factors": 7, "batches": 2, "score": "improvement", "direction": "optimizer"}),
    "kim-yu as released": ("kim-yu", {"variant": "as-released"}),
    "alr, wide": ("alr", {"beam": 3, "score": "running", "every": 8}),
    "arc, short cycles": ("arc", {"frequency": 1, "every": 4, "preprocessing": "paper", "max_lr": 0.5}),
    "autolr": ("autolr", {"superbatch": 20}),
    "autolr, exploiting": ("autolr", {"explore": 0.0, "saturation": 1.5, "superbatch": 3, "spread": 0.5}),
}
#: Agents that need the direction of the optimizer's update, which schedule-free optimizers have not.
ALONG = (
    "autolr",
    "autolr, exploiting",
    "kim-yu",
    "kim-yu with 7 factors",
    "line-search",
    "line-search along the gradient",
)
#: Agents that ask for nothing but what is measured in any case.
SCHEDULES = ("constant", "linear", "step", "exponential", "cosine", "cosine-restarts", "knee", "plateau")
FREE = {*SCHEDULES, "greedy", "arc", "ppo", "wsd", "jump", "recipe", "playback", "adalrs"}
FREE |= {"arc-raise", "arc-random", "shuffled"}
#: They act in the env that they were trained in only.
LEARNED = ("ppo", "shuffled")

MOMENTUM = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
AXES = ([{"batch_size": 8}, {"batch_size": 16}], [{"optimizer": "SGD"}, {}])
#: What is trained, with which options of the env, and from which learning rate.
KINDS: dict[str, tuple[Task | TaskFamily, dict[str, Any], float]] = {
    "Adam": (task(), {}, 0.01),
    "momentum, discrete": (task(optimizer="SGD", optimizer_options=MOMENTUM), {"action": "discrete"}, 0.01),
    "AdamW, every update": (
        *(task(optimizer="AdamW", optimizer_options={"amsgrad": True}, decision_interval=1, budget=10), {}, 1e-3),
    ),
    "RMSprop, small steps": (
        *(task(optimizer="RMSprop", optimizer_options={"momentum": 0.5}), {"max_multiplier": 1.2}, 0.01),
    ),
    "Adagrad, one decision": (task(optimizer="Adagrad", decision_interval=8), {"observe_progress": False}, 0.01),
    "LBFGS": (task(optimizer="LBFGS", optimizer_options={"max_iter": 3}), {}, 0.01),
    "schedule-free": (task(optimizer="schedule-free-sgd"), {}, 0.1),
    "regression": (task("line", loss="mse_loss"), {}, 0.01),
    "noise": (task(model="toys:NoisyNet", model_options={}), {}, 0.01),
    "convolutions": (task("images", model="toys:Convolutional", model_options={}, optimizer="SGD"), {}, 0.01),
    "family": (TaskFamily(name="toys", base=task(), axes=AXES), {}, 0.01),
    "unsteady": (task(optimizer="SGD", loss_ceiling=3.0), {}, 1.0),
    "diverges at once": (task("line", loss="mse_loss", optimizer="SGD"), {"max_lr": 10.0}, 10.0),
}
#: Other spaces, other tasks in every episode, and an end before the first decision; the next test has two more.
PLAYED_AGAIN = ("momentum, discrete", "family", "diverges at once")
CASES = [
    pytest.param(label, kind, id=f"{label}, {kind}")
    for label in AGENTS
    for kind, (_, options, _) in KINDS.items()
    if not (label in LEARNED and options.keys() - {"max_lr"}) and not (label in ALONG and kind == "schedule-free")
]
each_agent = pytest.mark.parametrize("label", AGENTS)
each_fixed_agent = pytest.mark.parametrize("label", [label for label in AGENTS if label not in LEARNED])


def make(label: str) -> Any:
    name, options = AGENTS[label]
    return agents.make(name, **options)


def env_of(kind: str, agent: Any) -> LRTrainingEnv:
    what, options, _ = KINDS[kind]
    wanted = {} if options.get("action") == "discrete" else agent.env_options
    bounds = {} if "min_lr" in wanted else {"min_lr": 1e-5, "max_lr": 1.0}  # a controller brings its own
    return LRTrainingEnv(what, **(bounds | wanted | options))


class Recorder:
    """Plays an agent and keeps what it said."""

    def __init__(self, agent: Any) -> None:
        self.agent, self.actions = agent, list[Any]()

    def reset(self, env: Any) -> None:
        self.agent.reset(env)

    def predict(self, *arguments: Any) -> tuple[Any, Any]:
        action, state = self.agent.predict(*arguments)
        self.actions.append(action)
        return action, state


def left_in_an_episode(agent: Any, kind: str) -> Any:
    """Let an agent decide once or a few times, in an episode with another seed and from another lr."""
    env = env_of(kind, agent)
    observation, _ = env.reset(seed=9, options={"initial_lr": 0.03})
    agent.reset(env)
    for _ in range(min(2, env.task.decisions)):
        observation, *_ = env.step(agent.predict(observation)[0])
    return agent


def same(a: Rollout, b: Rollout) -> bool:
    return toys.same(a.to_dict(), b.to_dict())


@pytest.mark.parametrize(("label", "kind"), CASES)
def test_an_episode(label: str, kind: str) -> None:
    """Learning rates and actions keep within bounds; on some kinds a copy of the agent that was used is asked again."""
    recorder, lr = Recorder(make(label)), KINDS[kind][2]
    env = env_of(kind, recorder.agent)
    randomness = toys.global_randomness()
    record = rollout(env, recorder, seed=5, initial_lr=lr)
    assert toys.same(randomness, toys.global_randomness())
    assert all(env.action_space.contains(action) for action in recorder.actions)
    assert all(env.min_lr <= lr <= env.max_lr for lr in record.lrs)
    assert record.result["diverged"] or record.updates[-1] == env.task.budget
    assert record.result["diverged"] or kind != "diverges at once"
    assert math.isfinite(record.result["test_loss"])
    assert (record.cost == 1) == (AGENTS[label][0] in FREE or "peak_lr" in AGENTS[label][1])
    if kind in PLAYED_AGAIN:
        copied = pickle.loads(pickle.dumps(recorder.agent))
        assert same(rollout(env_of(kind, copied), copied, seed=5, initial_lr=lr), record)


@each_agent
def test_an_agent_that_was_used(label: str) -> None:
    """It plays as a new one: after a whole episode, after one that was left, and copied there in two ways."""
    used = make(label)
    expected = rollout(env_of("noise", used), make(label), seed=1, initial_lr=1e-3)
    rollout(env_of("unsteady", used), used, seed=2, initial_lr=0.1)
    left_in_an_episode(used, "noise")
    for agent in (copy.deepcopy(used), pickle.loads(pickle.dumps(used)), used):
        assert same(rollout(env_of("noise", agent), agent, seed=1, initial_lr=1e-3), expected)


#: Agents that move the trainee to another state, by settings that keep them from it.
STEADY = {"alr": {"beam": 1}, "autolr": {"rollback": "never"}, "adalrs": {"search": 0.0}}


@each_agent
def test_looking_leaves_no_trace(label: str) -> None:
    """An episode is explained by its actions: played again without the agent, every number is the same.

    With noise in training, so that random streams count.
    """
    name, options = AGENTS[label]
    recorder = Recorder(agents.make(name, **(options | STEADY.get(name, {}))))
    record = rollout(env_of("noise", recorder.agent), recorder, seed=3, initial_lr=0.02)
    actions = iter(recorder.actions)
    played = rollout(env_of("noise", recorder.agent), lambda _: next(actions), seed=3, initial_lr=0.02)
    assert toys.same(played.to_dict(), record.to_dict() | {"extra_forward": 0.0, "extra_backward": 0.0})


@each_fixed_agent
def test_asked_outside_an_episode(label: str) -> None:
    """Before the first one; and a copy, which leaves its episode behind."""
    used = left_in_an_episode(make(label), "Adam")
    for agent in (make(label), pickle.loads(pickle.dumps(used))):
        message = f"{type(agent).__name__} needs reset(watched) at the start of every episode"
        for ask in (lambda agent=agent: agent.predict(None), lambda agent=agent: agent.watched):
            with pytest.raises(EpisodeError) as caught:
                ask()
            assert str(caught.value) == message
    with pytest.raises(InvalidArgumentError, match="an agent needs an LRTrainingEnv, wrapped or not, or what it watch"):
        make(label).reset(gymnasium.make("CartPole-v1"))


@each_fixed_agent
def test_where_nobody_can_look_ahead(label: str) -> None:
    """Who looks ahead says so in one line, and who does not acts: also a copy."""
    env = env_of("Adam", make(label))
    env.reset(seed=0, options={"initial_lr": 0.01})
    env.watched._look_ahead = None
    name, options = AGENTS[label]
    looking = ("adalrs", "alr", "autolr", "kim-yu", "line-search", "range-cosine", "one-cycle")
    ahead = name in looking and "peak_lr" not in options
    for agent in (make(label), pickle.loads(pickle.dumps(make(label)))):
        assert bool(agent.looks_ahead) == ahead
        if not ahead:
            agent.reset(env.watched)
            assert env.action_space.contains(agent.predict(None)[0])
            continue
        with pytest.raises(LookAheadError) as caught:
            agent.reset(env.watched)
        assert str(caught.value) == (
            f"{type(agent).__name__} {agent.looks_ahead}, which needs a training that can go back to an earlier state, "
            "like that of LRTrainingEnv; in your own loop pass look_ahead=lr_gym.look_ahead(model, loss, x, y). Agents "
            "that only watch do not need it: all except adalrs, alr, autolr, kim-yu, line-search, range-cosine, "
            "one-cycle (unless peak_lr is given)"
        )


@each_agent
def test_an_unknown_option_is_refused(label: str) -> None:
    name, options = AGENTS[label]
    with pytest.raises(
        InvalidArgumentError, match=f"(?s)^the agent '{name}' refuses the options .*'beginning': 1.*beginn"
    ):
        agents.make(name, **options, beginning=1)


def test_agents_do_not_reach_around_the_handle() -> None:
    folder = tiny.ROOT / "agents"
    files = [path for path in (*folder.glob("*.py"), folder / "arc" / "agent.py") if path.name != "base.py"]
    assert len(files) > 8
    for path in files:
        assert not re.search(r"(trainee|env)\._", path.read_text()), path.name
