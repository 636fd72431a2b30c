"""ARC's network, against Keras's arithmetic in NumPy; its files, whole and damaged."""

from __future__ import annotations

import os
import pickle
import re
import struct
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import safetensors
import safetensors.torch
import torch
import toys

from lr_gym.agents.arc import network as network_module
from lr_gym.agents.arc.network import DEFAULT_WEIGHTS, MULTIPLIERS, ARCNetwork, load_weights, save_weights
from lr_gym.agents.arc.preprocessing import encode
from lr_gym.control.actions import DISCRETE_MULTIPLIERS
from lr_gym.errors import FileFormatError, InvalidArgumentError

#: The authors' file, if this machine has it; noted before the tests hide the machine's data.
AUTHORS = Path(os.environ.get("LR_GYM_DATA") or "nowhere") / "arc.h5"
needs_authors = pytest.mark.skipif(not AUTHORS.is_file(), reason="no arc.h5 in LR_GYM_DATA")

#: The arrays of a Keras file, with their shapes: kernels before biases, inputs before outputs.
KERAS: dict[str, tuple[int, ...]] = {
    "conv1d/conv1d/kernel:0": (5, 3, 32),
    "conv1d/conv1d/bias:0": (32,),
    "conv1d_1/conv1d_1/kernel:0": (5, 32, 64),
    "conv1d_1/conv1d_1/bias:0": (64,),
    "lstm/lstm/lstm_cell/kernel:0": (64, 256),
    "lstm/lstm/lstm_cell/recurrent_kernel:0": (64, 256),
    "lstm/lstm/lstm_cell/bias:0": (256,),
    "lstm_1/lstm_1/lstm_cell_1/kernel:0": (64, 256),
    "lstm_1/lstm_1/lstm_cell_1/recurrent_kernel:0": (64, 256),
    "lstm_1/lstm_1/lstm_cell_1/bias:0": (256,),
    "dense/dense/kernel:0": (64, 32),
    "dense/dense/bias:0": (32,),
    "dense_1/dense_1/kernel:0": (32, 3),
    "dense_1/dense_1/bias:0": (3,),
}

Arrays = dict[str, npt.NDArray[Any]]


def arrays(seed: int = 0) -> Arrays:
    """Return random weights of about the size of trained ones, by Keras's names."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(scale=0.2, size=shape).astype(np.float32) for name, shape in KERAS.items()}


def write_keras(path: Path, contents: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.create_group("max_pooling1d")
        for name, array in contents.items():
            file[name] = array
    return path


def sigmoid(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 1 / (1 + np.exp(-x))


def keras_logits(contents: Arrays, curves: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the logits (3,) of curves (300, 3) in double precision, as Keras computes them."""
    w = {name: array.astype(np.float64) for name, array in contents.items()}
    x = curves.astype(np.float64)
    for layer in ("conv1d/conv1d", "conv1d_1/conv1d_1"):
        kernel, bias = w[f"{layer}/kernel:0"], w[f"{layer}/bias:0"]
        x = np.array([np.einsum("ki,kio->o", x[t : t + 5], kernel) + bias for t in range(len(x) - 4)])
        x = np.maximum(x, 0)
        x = np.array([x[t : t + 2].max(axis=0) for t in range(0, len(x) - 1, 2)])
    for layer in ("lstm/lstm/lstm_cell", "lstm_1/lstm_1/lstm_cell_1"):
        h, c, outputs = np.zeros(64), np.zeros(64), []
        for point in x:
            gates = point @ w[f"{layer}/kernel:0"] + h @ w[f"{layer}/recurrent_kernel:0"] + w[f"{layer}/bias:0"]
            i, f, g, o = np.split(gates, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        x = np.array(outputs)
    hidden = np.maximum(x[-1] @ w["dense/dense/kernel:0"] + w["dense/dense/bias:0"], 0)
    return hidden @ w["dense_1/dense_1/kernel:0"] + w["dense_1/dense_1/bias:0"]


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def logits(network: ARCNetwork, curves: npt.NDArray[Any]) -> npt.NDArray[Any]:
    with torch.inference_mode():
        return network(torch.from_numpy(curves.astype(np.float32))[None])[0].numpy()


def random_curves(seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(300, 3)).astype(np.float32)


# -- the network -------------------------------------------------------------------------------------------------------


def test_new_weights_are_keras_defaults() -> None:
    """79,043 numbers, decided by the seed and nothing else, and told apart by the fingerprint."""
    randomness = toys.global_randomness()
    network, again, other = ARCNetwork(3), ARCNetwork(3), ARCNetwork(2)
    assert toys.same(randomness, toys.global_randomness())
    assert toys.same(network.state_dict(), again.state_dict())
    assert network.fingerprint() == again.fingerprint() != other.fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", network.fingerprint())
    assert not torch.equal(network.conv1.weight, other.conv1.weight)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 79_043
    assert sum(tensor.numel() for tensor in network.weights().values()) == 79_043
    assert MULTIPLIERS == DISCRETE_MULTIPLIERS
    for name, parameter in network.named_parameters():
        tensor = parameter.detach()
        if "bias_ih" in name:
            assert tensor.tolist() == [0.0] * 64 + [1.0] * 64 + [0.0] * 128
        elif "bias" in name:
            assert not tensor.any()
        elif "weight_hh" in name:  # the columns of Keras's transposed kernel
            torch.testing.assert_close(tensor.T @ tensor, torch.eye(64), atol=1e-5, rtol=0)
        else:
            field = tensor[0, 0].numel() if tensor.ndim == 3 else 1
            limit = (6 / (field * (tensor.shape[0] + tensor.shape[1]))) ** 0.5
            assert 0.9 * limit < tensor.abs().max() <= limit
            assert abs(float(tensor.std()) - limit / 3**0.5) < 0.15 * limit
            assert abs(float(tensor.mean())) < 0.15 * limit
    with torch.no_grad():
        network.dense2.bias[1] += 1e-6
    assert pickle.loads(pickle.dumps(network)).fingerprint() == network.fingerprint() != again.fingerprint()


def test_training_and_batches() -> None:
    """All weights learn but the second biases; the order of a batch does not matter."""
    network = ARCNetwork()
    before = {name: tensor.clone() for name, tensor in network.weights().items()}
    curves = np.stack([random_curves(seed) for seed in range(4)])
    outputs = network(torch.from_numpy(curves))
    np.testing.assert_allclose(outputs.detach(), [logits(network, one) for one in curves], atol=1e-5)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    torch.nn.functional.cross_entropy(outputs, torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert all(not torch.equal(tensor, before[name]) for name, tensor in network.weights().items())
    assert not any(tensor.any() for name, tensor in network.named_parameters() if "bias_hh" in name)


# -- the authors' file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_keras_weights_act_as_in_keras(tmp_path: Path, suffix: str) -> None:
    """In any precision, and as our file."""
    contents = arrays(len(suffix))
    network = load_weights(write_keras(tmp_path / f"keras{suffix}", contents))
    for curves in (random_curves(1), np.zeros((300, 3))):
        expected = keras_logits(contents, curves)
        assert logits(network, curves) == pytest.approx(expected, abs=1e-5)
        with torch.inference_mode():
            double = load_weights(tmp_path / f"keras{suffix}").double()(torch.from_numpy(curves).double()[None])
        assert double[0].numpy() == pytest.approx(expected, abs=1e-12)
    doubles = {name: array.astype(np.float64) for name, array in contents.items()}
    assert load_weights(write_keras(tmp_path / "double.h5", doubles)).fingerprint() == network.fingerprint()
    save_weights(network, tmp_path / "arc.safetensors")
    assert load_weights(tmp_path / "arc.safetensors").fingerprint() == network.fingerprint()


@needs_authors
def test_golden_values_of_the_authors_network() -> None:
    with h5py.File(AUTHORS, "r") as file:
        contents = {name: file[name][()] for name in KERAS}
    network = load_weights(AUTHORS)
    nothing = np.zeros((300, 3))
    only_lr = np.tile([0, 0, 1], (300, 1))
    for curves, golden in ((only_lr, [0.611653, 0.273109, 0.115238]), (nothing, [0.459823, 0.288553, 0.251625])):
        assert softmax(keras_logits(contents, curves)) == pytest.approx(golden, abs=1e-6)
        assert softmax(logits(network, curves)) == pytest.approx(golden, abs=2e-6)
    for seed in range(3):
        curves = random_curves(seed)
        assert softmax(logits(network, curves)) == pytest.approx(softmax(keras_logits(contents, curves)), abs=1e-6)
    train = np.exp(-np.arange(300) / 30).reshape(3, 100)
    for lrs, choice, probability in (((0.1, 0.1, 0.1), 0, 0.985), ((0.1, 0.0618, 0.0382), 2, 0.902)):
        curves = encode(list(train), [[cycle[-1]] * 3 for cycle in train], lrs)
        assert softmax(logits(network, curves))[choice] == pytest.approx(probability, abs=6e-4)


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_keras(tmp_path / "arc.h5", arrays())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InvalidArgumentError, match=r'arc\.h5 is a Keras file.*needs h5py.*pip install "lr-gym\[arc\]"'):
        load_weights(path)
    assert sum(tensor.numel() for tensor in load_weights(DEFAULT_WEIGHTS).weights().values()) == 79_043


KERNEL = "dense_1/dense_1/kernel:0"
ALIEN = "does not hold the weights of ARC's"
#: What takes the place of the last kernel, under which name, and the words of the error.
BAD_KERAS: list[tuple[Any, str, str]] = [
    (None, KERNEL, ALIEN),
    (np.ones((32, 3)), "dense_2/dense_2/kernel:0", ALIEN),
    (np.ones((32, 3)), f"{KERNEL}/more", f"{KERNEL} must be numbers of shape"),  # a group in its place
    (np.ones((3, 32)), KERNEL, r"numbers of shape \(32, 3\), got .*\(3, 32\)"),
    (np.zeros((9, 9, 9)), KERNEL, r"shape \(32, 3\), got .*\(9, 9, 9\)"),
    (np.ones((32, 3), int), KERNEL, "must be numbers of shape"),
    (np.full((32, 3), b"x"), KERNEL, "must be numbers of shape"),
    (np.full((32, 3), np.nan), KERNEL, r"dense2\.weight must be finite"),
    (np.full((32, 3), 1e300), KERNEL, r"dense2\.weight must be finite"),  # beyond float32
]


def test_bad_keras_files(tmp_path: Path) -> None:
    path, rest = tmp_path / "arc.h5", {name: array for name, array in arrays().items() if name != KERNEL}
    for array, name, message in BAD_KERAS:
        write_keras(path, rest if array is None else rest | {name: array})
        with pytest.raises(FileFormatError, match=message):
            load_weights(path)
    whole = write_keras(path, arrays()).read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=ALIEN):
            load_weights(path)


# -- our files ---------------------------------------------------------------------------------------------------------


def test_a_flipped_bit(tmp_path: Path) -> None:
    """In weights of our own and in those of the package."""
    shipped = tmp_path / "shipped.safetensors"
    shipped.write_bytes(DEFAULT_WEIGHTS.read_bytes())
    own = tmp_path / "own.safetensors"
    save_weights(load_weights(DEFAULT_WEIGHTS), own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "DEFAULT_WEIGHTS", shipped)
        for path in (own, shipped):
            whole = bytearray(path.read_bytes())
            load_weights(path)
            for place in (-1, -2001, -300_000):
                damaged = bytearray(whole)
                damaged[place] ^= 1
                path.write_bytes(damaged)
                with pytest.raises(
                    FileFormatError, match="was changed after it was written: its checksum does not fit"
                ):
                    load_weights(path)


def test_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old file."""
    network = ARCNetwork(seed=5)
    path = tmp_path / "new folder" / "weights.safetensors"
    save_weights(network, str(path), {"trained on": "nothing", "seed": "5"})
    for _ in range(5):  # the same file every time, whatever order the library's header has
        before = path.read_bytes()
        save_weights(network, path, {"seed": "5", "trained on": "nothing"})
        assert path.read_bytes() == before
    copied = load_weights(str(path))
    assert toys.same(copied.state_dict(), network.state_dict())
    assert copied.fingerprint() == network.fingerprint()
    assert [p.requires_grad for p in copied.parameters()] == [p.requires_grad for p in network.parameters()]
    assert logits(copied, random_curves(1)).tolist() == logits(network, random_curves(1)).tolist()
    with safetensors.safe_open(path, "pt") as file:
        assert {k: v for k, v in file.metadata().items() if k != "sha256"} == {"trained on": "nothing", "seed": "5"}
        assert {*file.keys()} == {*network.weights()}
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_weights(ARCNetwork(2), path)
    assert load_weights(path).fingerprint() == network.fingerprint()
    assert os.listdir(path.parent) == ["weights.safetensors"]


#: What is added to the tensors, and the words of the error.
BAD_TENSORS: list[tuple[dict[str, torch.Tensor], str]] = [
    ({"lstm.bias_hh_l0": torch.zeros(256)}, r"missing \[\], unknown \['lstm\.bias_hh_l0'\]"),
    ({"conv1.bias": torch.zeros(33)}, r"conv1\.bias must be .* shape \(32,\); got .*\(33,\)"),
    ({"conv1.bias": torch.zeros(32).double()}, r"float32 of shape .*; got torch\.float64"),
    ({"conv1.bias": torch.zeros(32).long()}, r"float32 of shape .*; got torch\.int64"),
    ({"conv1.bias": torch.full((32,), torch.nan)}, r"conv1\.bias must be finite"),
    ({"conv1.bias": torch.full((32,), -torch.inf)}, r"conv1\.bias must be finite"),
]


def test_bad_files(tmp_path: Path) -> None:
    """Other tensors, damaged files, and those that are none."""
    path, tensors = tmp_path / "w.safetensors", ARCNetwork().weights()
    contents = [(safetensors.torch.save(tensors | more), message) for more, message in BAD_TENSORS]
    most = {name: tensor for name, tensor in tensors.items() if name != "conv1.bias"}
    contents.append((safetensors.torch.save(most), r"missing \['conv1\.bias'\], unknown \[\]"))
    contents.append((safetensors.torch.save({}), "does not hold the weights of ARC's network: missing"))
    whole = safetensors.torch.save(tensors)
    unknown_type = b'{"x":{"dtype":"Q7","shape":[1],"data_offsets":[0,4]}}'
    pieces = [whole[:length] for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1)]
    pieces += [b"\x80\x04}." * 100, struct.pack("<Q", 2**62) + whole[8:], whole + b"more"]
    pieces.append(struct.pack("<Q", len(unknown_type)) + unknown_type + b"0000")
    for content, message in (*contents, *((piece, "cannot be read as safetensors") for piece in pieces)):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=message):
            load_weights(path)
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("missing.safetensors", "missing.h5", "folder.safetensors"):
        with pytest.raises(FileFormatError, match=f"there is no file .*{name}"):
            load_weights(tmp_path / name)
    for name in ("weights.pt", "weights", "weights.SAFE"):
        (tmp_path / name).write_bytes(pickle.dumps({}))
        with pytest.raises(FileFormatError, match=r"must be .*: \.safetensors, \.h5 or \.hdf5"):
            load_weights(tmp_path / name)
