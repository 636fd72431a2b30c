"""The arithmetic of a trainee's forward and backward passes: float32, or faster and coarser."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lr_gym.checks import check_choice
from lr_gym.errors import InvalidArgumentError

PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """How numbers are multiplied and laid out. Weights, gradients, optimizer states and losses are always float32.

    Attributes:
        precision: `"float32"`; `"tf32"`: products of matrices and convolutions keep 10 bits of the mantissa (NVIDIA
            GPUs only); `"bfloat16"`: PyTorch's autocast, products keep 7.
        channels_last: Lay images and filters out with the channels last.

    Raises:
        InvalidArgumentError: There is no such precision.
    """

    precision: str = "float32"
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        if not isinstance(self.channels_last, bool):
            raise InvalidArgumentError(f"channels_last must be True or False, got {self.channels_last!r}")

    def check_device(self, device: torch.device) -> None:
        """Check that a device has this arithmetic.

        Raises:
            InvalidArgumentError: The device does not have it.
        """
        if self.precision == "tf32" and device.type != "cuda":
            raise InvalidArgumentError(f"precision='tf32' needs an NVIDIA GPU, got device {str(device)!r}")

    def forward(self, network: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
        """Return a network's forward pass in this arithmetic; its outputs are float32."""
        if self.precision != "bfloat16":
            return network

        def coarse(*arguments: Any) -> Tensor:
            # Casts are not cached: weights change in place, and a CUDA graph must hold the casts.
            with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
                outputs = network(*arguments)
            return outputs.float()

        return coarse

    @contextlib.contextmanager
    def flags(self, device: torch.device) -> Iterator[None]:
        """Let the forward and backward passes of a block multiply like this on a GPU: PyTorch has global switches."""
        if device.type != "cuda":
            yield
            return
        tf32 = self.precision == "tf32"
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        try:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):  # else convolutions use TF32 unasked
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def laid_out(self, images: Tensor) -> Tensor:
        """Return inputs in this layout; it changes images only."""
        applies = self.channels_last and images.ndim == 4
        return images.contiguous(memory_format=torch.channels_last) if applies else images

    def lay_out(self, model: nn.Module) -> nn.Module:
        """Bring a network's filters into this layout, in place."""
        return model.to(memory_format=torch.channels_last) if self.channels_last else model
