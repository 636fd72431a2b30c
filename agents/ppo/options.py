"""The algorithms of Stable-Baselines3 that train a controller, and the options that only some of them have.

Options have SB3's names, are given by `--settings`, and are handed to SB3 as they are. Settings of `TrainConfig` that
an algorithm has no use for are refused where they are set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lr_gym.checks import check_number, check_whole
from lr_gym.errors import InvalidArgumentError


@dataclasses.dataclass(frozen=True)
class Option:
    """A number, whole or not, or yes or no.

    Attributes:
        default: Its value.
        low: Smallest value.
        high: Largest value.
        words: Words that it may be in place of a number.
    """

    default: Any
    low: float = 0
    high: float = 1e6
    words: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Check a value.

        Raises:
            InvalidArgumentError: It makes no sense.
        """
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise InvalidArgumentError(f"{name} must be true or false, got {value!r}")
        elif isinstance(value, str) and self.words:
            if value not in self.words:
                raise InvalidArgumentError(f"{name} must be a number or {' or '.join(self.words)}, got {value!r}")
        elif isinstance(self.default, int):
            check_whole(name, value, int(self.low), int(self.high))
        else:
            check_number(name, value, self.low, self.high)


_ON_POLICY = {"vf_coef": Option(0.5), "max_grad_norm": Option(0.5, 1e-6)}
_OFF_POLICY = {
    "batch_size": Option(256, 2, 100_000),
    "buffer_size": Option(100_000, 10, 10_000_000),
    "tau": Option(0.005, 0, 1),
    "gradient_steps": Option(-1, -1, 1_000_000),  # per iteration; -1: as many as decisions were made in it
    "learning_starts": Option(500, 0, 10_000_000),  # decisions that are drawn uniformly
}
#: Options by algorithm.
OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "ppo": _ON_POLICY,
    "a2c": _ON_POLICY | {"use_rms_prop": Option(True), "normalize_advantage": Option(False)},
    "sac": _OFF_POLICY | {"ent_coef": Option("auto", words=("auto",))},
    "td3": _OFF_POLICY
    | {
        "action_noise": Option(0.1, 0, 10),
        "policy_delay": Option(2, 1, 1000),
        "target_policy_noise": Option(0.2, 0, 10),
        "target_noise_clip": Option(0.5, 0, 10),
    },
}
#: Those that learn from a replay buffer.
OFF_POLICY = ("sac", "td3")
#: Settings of `TrainConfig` that an algorithm has no use for.
WITHOUT: Mapping[str, tuple[str, ...]] = {
    "ppo": (),
    "a2c": ("clip_range", "epochs", "minibatches"),
    "sac": ("clip_range", "epochs", "minibatches", "gae_lambda", "entropy_coefficient", "log_std", "replicas"),
}
WITHOUT |= {"td3": WITHOUT["sac"]}  # type: ignore[operator]
#: Settings of `TrainConfig` that an algorithm begins with on the command line, where others begin with the profile's.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"sac": {"gamma": 0.99}, "td3": {"gamma": 0.99}}
#: What `--algo` takes: the algorithm, and the actor if it says which.
WORDS: Mapping[str, tuple[str, str | None]] = {
    "ppo": ("ppo", None),
    "recurrent-ppo": ("ppo", "lstm"),
    "a2c": ("a2c", None),
    "sac": ("sac", None),
    "td3": ("td3", None),
}


def checked(algorithm: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an algorithm, with their defaults where they must be said; checked.

    Raises:
        InvalidArgumentError: One is unknown or makes no sense.
    """
    known = OPTIONS[algorithm]
    if unknown := sorted(options.keys() - known.keys()):
        raise InvalidArgumentError(f"{algorithm} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    for name, value in options.items():
        known[name].check(name, value)
    return dict(options)


def full(algorithm: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of an algorithm."""
    return {name: options.get(name, option.default) for name, option in OPTIONS[algorithm].items()}
