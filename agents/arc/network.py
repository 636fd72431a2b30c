"""ARC's network, and the files that hold its weights.

From three curves of 300 points to the logits of three classes (Dong et al. 2021, section 3.4; sizes as in the authors'
code):

| layer | output |
|---|---|
| convolution over 5 points, 32 channels, ReLU; maximum of 2 | 148 x 32 |
| convolution over 5 points, 64 channels, ReLU; maximum of 2 | 72 x 64 |
| two LSTMs of 64 units; the last output of the second | 64 |
| dense, 32 units, ReLU | 32 |
| dense | 3 |

79,043 numbers. Keras's LSTM, with which the authors trained theirs, has one vector of biases where PyTorch's has two:
the second, `bias_hh`, stays zero here, is neither trained nor stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lr_gym.errors import FileFormatError, InvalidArgumentError, reason
from lr_gym.files import checksum, write_bytes
from lr_gym.trainee.randomness import isolated

#: What each class does to the learning rate: raise, keep, lower.
MULTIPLIERS = (1.618, 1.0, 0.618)
#: The classes by name.
RAISE, KEEP, LOWER = range(len(MULTIPLIERS))
#: The weights that come with this package; `agents/arc/train.py` made them.
DEFAULT_WEIGHTS = Path(__file__).parent / "arc.safetensors"
#: Units of each LSTM.
UNITS = 64
#: Name of the checksum in a file's header; files of earlier versions have none.
CHECKSUM = "sha256"
#: That of the weights in the package, which are older.
DEFAULT_CHECKSUM = "3a1207912b384ab31b243220e94608bdcaf6332bfb2cbed4619e56492bcf74f7"
#: Bytes: a file with these 79,043 numbers has a third of a megabyte.
LARGEST = 2**22


class ARCNetwork(nn.Module):
    """The classifier: curves (batch, 300, 3), float32, to logits (batch, 3)."""

    def __init__(self, seed: int = 0) -> None:
        """Make the network with new weights; leaves the global random state alone.

        They are as in Keras by default: Glorot's uniform distribution, orthogonal recurrent weights, and biases of
        zero, or of one at the forget gates.

        Args:
            seed: Decides the weights.
        """
        super().__init__()
        with isolated(seed):  # PyTorch's modules draw weights of their own
            self.conv1 = nn.Conv1d(3, 32, kernel_size=5)
            self.conv2 = nn.Conv1d(32, 64, kernel_size=5)
            self.lstm = nn.LSTM(64, UNITS, num_layers=2, batch_first=True)
            self.dense1 = nn.Linear(UNITS, 32)
            self.dense2 = nn.Linear(32, len(MULTIPLIERS))
            for name, parameter in self.named_parameters():
                if "bias" in name:
                    nn.init.zeros_(parameter)
                elif "weight_hh" in name:
                    nn.init.orthogonal_(parameter)
                else:
                    nn.init.xavier_uniform_(parameter)
        for name, parameter in self.lstm.named_parameters():
            if "bias_ih" in name:
                with torch.no_grad():
                    parameter[UNITS : 2 * UNITS] = 1.0  # the gates' order is input, forget, cell, output
            parameter.requires_grad_("bias_hh" not in name)

    def forward(self, curves: Tensor) -> Tensor:
        """Return logits (batch, 3) of curves (batch, 300, 3)."""
        x = curves.transpose(1, 2)  # a convolution wants channels before points
        x = torch.max_pool1d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool1d(torch.relu(self.conv2(x)), 2)
        outputs, _ = self.lstm(x.transpose(1, 2))
        logits: Tensor = self.dense2(torch.relu(self.dense1(outputs[:, -1])))
        return logits

    def weights(self) -> dict[str, Tensor]:
        """Return the 79,043 numbers by name: the tensors themselves, not copies."""
        return {name: tensor.detach() for name, tensor in self.named_parameters() if "bias_hh" not in name}

    def fingerprint(self) -> str:
        """Return a hash of the weights, 16 hexadecimal digits: the same for two networks that act the same."""
        digest = hashlib.sha256()
        for tensor in self.weights().values():
            digest.update(tensor.cpu().numpy().astype("<f4").tobytes())
        return digest.hexdigest()[:16]


def save_weights(network: ARCNetwork, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's weights to a safetensors file, atomically.

    Args:
        network: The network.
        path: Where to.
        metadata: What else the file's header is to say, for example how the network was trained.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.weights().items()}
    about = dict(metadata or {})
    write_bytes(Path(path), _in_order(safetensors.torch.save(tensors, about | {CHECKSUM: checksum(about, tensors)})))


def _in_order(file: bytes) -> bytes:
    """Return a safetensors file with its header in order: the library writes what is said of it in any order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[end:]


def load_weights(path: str | Path) -> ARCNetwork:
    """Return the network whose weights a file holds. Executes nothing from the file.

    Args:
        path: What `save_weights` wrote (`.safetensors`), or the authors' Keras weights (`.h5`, `.hdf5`; needs h5py).

    Raises:
        FileFormatError: The file is missing, damaged, or does not hold this network's weights.
        InvalidArgumentError: h5py is needed and not installed.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".h5", ".hdf5"):
        raise FileFormatError(f"{path} must be a file of weights of ARC's network: .safetensors, .h5 or .hdf5")
    if not path.is_file():
        raise FileFormatError(f"there is no file {path}; give the weights of ARC's network, or none for those shipped")
    read = _read_safetensors if path.suffix == ".safetensors" else _read_keras
    network = ARCNetwork()
    wanted = network.weights()
    tensors = read(path, wanted)
    if tensors.keys() != wanted.keys():
        raise FileFormatError(
            f"{path} does not hold the weights of ARC's network: missing {sorted(wanted.keys() - tensors.keys())}, "
            f"unknown {sorted(tensors.keys() - wanted.keys())}"
        )
    for name, tensor in tensors.items():
        shape, dtype = wanted[name].shape, wanted[name].dtype
        if tensor.shape != shape or tensor.dtype != dtype or not bool(tensor.isfinite().all()):
            raise FileFormatError(
                f"{path}: {name} must be finite, {dtype} of shape {tuple(shape)}; got {tensor.dtype} of shape "
                f"{tuple(tensor.shape)}"
            )
        wanted[name].copy_(tensor)
    return network


def _read_safetensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file; one that we wrote has a checksum, which must fit."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size} bytes, more than any weights of this network")
        with safetensors.safe_open(path, framework="pt") as archive:
            about = dict(archive.metadata() or {})
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise FileFormatError(f"{path} cannot be read as safetensors: {reason(error)}") from error
    if path == DEFAULT_WEIGHTS:
        about.setdefault(CHECKSUM, DEFAULT_CHECKSUM)
    if CHECKSUM in about and about.pop(CHECKSUM) != checksum(about, tensors):
        raise FileFormatError(f"{path} was changed after it was written: its checksum does not fit; copy it anew")
    return tensors


#: For each of our names the array in the authors' file, and the order of its axes.
KERAS_NAMES: dict[str, tuple[str, tuple[int, ...]]] = {
    "conv1.weight": ("conv1d/conv1d/kernel:0", (2, 1, 0)),
    "conv1.bias": ("conv1d/conv1d/bias:0", (0,)),
    "conv2.weight": ("conv1d_1/conv1d_1/kernel:0", (2, 1, 0)),
    "conv2.bias": ("conv1d_1/conv1d_1/bias:0", (0,)),
    "lstm.weight_ih_l0": ("lstm/lstm/lstm_cell/kernel:0", (1, 0)),
    "lstm.weight_hh_l0": ("lstm/lstm/lstm_cell/recurrent_kernel:0", (1, 0)),
    "lstm.bias_ih_l0": ("lstm/lstm/lstm_cell/bias:0", (0,)),
    "lstm.weight_ih_l1": ("lstm_1/lstm_1/lstm_cell_1/kernel:0", (1, 0)),
    "lstm.weight_hh_l1": ("lstm_1/lstm_1/lstm_cell_1/recurrent_kernel:0", (1, 0)),
    "lstm.bias_ih_l1": ("lstm_1/lstm_1/lstm_cell_1/bias:0", (0,)),
    "dense1.weight": ("dense/dense/kernel:0", (1, 0)),
    "dense1.bias": ("dense/dense/bias:0", (0,)),
    "dense2.weight": ("dense_1/dense_1/kernel:0", (1, 0)),
    "dense2.bias": ("dense_1/dense_1/bias:0", (0,)),
}


def _read_keras(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the arrays of the authors' file under our names; shapes are checked before anything is read."""
    try:
        import h5py
    except ImportError as error:
        raise InvalidArgumentError(
            f'{path} is a Keras file, and reading it needs h5py: install it with pip install "lr-gym[arc]", or '
            "pip install h5py"
        ) from error
    tensors = {}
    try:
        with h5py.File(path, "r") as file:
            for name, (keras_name, axes) in KERAS_NAMES.items():
                array, shape = file[keras_name], wanted[name].permute(axes).shape
                if not isinstance(array, h5py.Dataset) or array.shape != shape or array.dtype.kind != "f":
                    raise FileFormatError(f"{path}: {keras_name} must be numbers of shape {tuple(shape)}, got {array}")
                tensors[name] = torch.tensor(array[()], dtype=torch.float32).permute(axes)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise FileFormatError(f"{path} does not hold the weights of ARC's authors: {reason(error)}") from error
    return tensors
