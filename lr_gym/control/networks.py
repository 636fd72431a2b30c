"""The networks of a trained controller in a few lines of PyTorch: they act, and are trained elsewhere.

    mlp:   h = tanh(W x + b)                  lstm:   h, c = LSTM(x, (h, c))
    action ~ N(A h + a, exp(log_std)^2), clipped to [-1, 1]; or, if it is discrete, softmax(A h + a)

    sac, td3:  h = relu(W2 relu(W1 x + b1) + b2);  action = tanh(A h + a), of sac tanh(N(A h + a, exp(B h + b)^2))

The names of the tensors are those of Stable-Baselines3's policies, by which the networks were trained; the numbers come
out the same, bit for bit. The critic's tensors of mlp and lstm are kept in the file too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn import functional as F

#: Hidden and cell state of an LSTM, (1, batch, hidden) each.
State = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


#: Layers of the actors whose actions are squashed by tanh: two hidden ones, the mean, and of SAC the deviation.
SQUASHED = {"sac": ("latent_pi.0", "latent_pi.2", "mu", "log_std"), "td3": ("mu.0", "mu.2", "mu.4")}
PARTS = ("weight", "bias")


def tensor_shapes(actor: str, inputs: int, hidden: int, outputs: int, continuous: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a controller, by name.

    Args:
        actor: `"mlp"`, `"lstm"`, `"sac"` or `"td3"`.
        inputs: Entries of the observation.
        hidden: Units of each layer.
        outputs: Entries of the action, or choices.
        continuous: Whether the action is continuous.
    """
    if actor in SQUASHED:
        names = SQUASHED[actor]
        layers = {f"actor.{names[0]}": (hidden, inputs), f"actor.{names[1]}": (hidden, hidden)}
        layers |= {f"actor.{name}": (outputs, hidden) for name in names[2:]}
        return {f"{n}.{part}": (r, c) if part == "weight" else (r,) for n, (r, c) in layers.items() for part in PARTS}
    layers = {"action_net": (outputs, hidden), "value_net": (1, hidden)}
    if actor == "lstm":
        layers |= {"critic": (hidden, inputs), "mlp_extractor.value_net.0": (hidden, hidden)}
    else:
        layers |= {f"mlp_extractor.{part}.0": (hidden, inputs) for part in ("policy_net", "value_net")}
    shapes: dict[str, tuple[int, ...]] = {"log_std": (outputs,)} if continuous else {}
    for name, (rows, columns) in layers.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    if actor == "lstm":
        gates = 4 * hidden
        shapes |= {"lstm_actor.weight_ih_l0": (gates, inputs), "lstm_actor.weight_hh_l0": (gates, hidden)}
        shapes |= {f"lstm_actor.bias_{part}_l0": (gates,) for part in ("ih", "hh")}
    return shapes


class ActorNetwork:
    """The actor of a controller."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Make the network.

        Args:
            weights: Tensors by name, as `tensor_shapes` has them; float32. They are not copied.
        """
        self._weights = weights
        self._lstm: nn.LSTM | None = None
        self._squashed = next((names for names in SQUASHED.values() if f"actor.{names[-1]}.bias" in weights), None)
        if "lstm_actor.weight_ih_l0" in weights:
            gates, inputs = weights["lstm_actor.weight_ih_l0"].shape
            with torch.device("meta"):  # without numbers, which would be drawn from the global generator
                self._lstm = nn.LSTM(inputs, gates // 4)
            own = {n.removeprefix("lstm_actor."): w for n, w in weights.items() if n.startswith("lstm_actor.")}
            self._lstm.load_state_dict(own, assign=True)

    @torch.no_grad()
    def act(
        self, observations: npt.NDArray[np.float32], state: State | None, starts: Any, deterministic: bool
    ) -> tuple[npt.NDArray[Any], State | None]:
        """Return actions for some observations.

        Args:
            observations: (batch, inputs).
            state: Of the LSTM after the last observations; None at the start.
            starts: Whether an episode begins with each observation, so that its state is forgotten, (batch,).
            deterministic: Whether the likeliest action is taken, or one is drawn from PyTorch's global generator.

        Returns:
            Actions, float32 (batch, outputs) in [-1, 1] or int64 (batch,), and the new state.
        """
        x = torch.tensor(observations)  # a copy: a product rounds by where in the memory its factors lie
        if self._squashed is not None:
            return self._squashed_action(self._squashed, x, deterministic), state
        if self._lstm is None:
            hidden = torch.tanh(self._linear("mlp_extractor.policy_net.0", x))
        else:
            hidden, state = self._remember(self._lstm, x, state, starts)
        outputs = self._linear("action_net", hidden)
        if "log_std" in self._weights:
            actions = outputs if deterministic else self._drawn(outputs)
            return np.clip(actions.numpy(), np.float32(-1), np.float32(1)), state
        choices = Categorical(logits=outputs)
        return (choices.probs.argmax(1) if deterministic else choices.sample()).numpy(), state  # type: ignore[no-untyped-call]

    def _squashed_action(self, names: tuple[str, ...], x: Tensor, deterministic: bool) -> npt.NDArray[np.float32]:
        for name in names[:2]:
            x = torch.relu(self._linear(f"actor.{name}", x))
        action = self._linear(f"actor.{names[2]}", x)
        if len(names) > 3 and not deterministic:
            deviation = self._linear(f"actor.{names[3]}", x).clamp(-20, 2).exp()
            action = Normal(action, deviation).rsample()
        squashed: npt.NDArray[np.float32] = torch.tanh(action).numpy()
        return -1 + 0.5 * (squashed + 1.0) * 2  # rounds as SB3 does

    def _drawn(self, mean: Tensor) -> Tensor:
        return Normal(mean, torch.ones_like(mean) * self._weights["log_std"].exp()).rsample()

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _remember(self, lstm: nn.LSTM, x: Tensor, state: State | None, starts: Any) -> tuple[Tensor, State]:
        count = len(x)
        empty = np.zeros((1, count, lstm.hidden_size), np.float32)
        goes_on = 1 - torch.as_tensor(np.zeros(count) if starts is None else np.asarray(starts), dtype=torch.float32)
        before = [goes_on.view(1, -1, 1) * torch.as_tensor(s, dtype=torch.float32) for s in state or (empty, empty)]
        outputs, (hidden, cell) = lstm(x.reshape(count, 1, -1).swapaxes(0, 1), (before[0], before[1]))
        return outputs[0], (hidden.numpy(), cell.numpy())
