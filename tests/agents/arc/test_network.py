"""ARC's network, against Keras's arithmetic in NumPy; its files, whole and damaged."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Callable
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


def read_keras(path: Path) -> Arrays:
    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in KERAS}


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


def test_size() -> None:
    network = ARCNetwork()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 79_043
    assert sum(tensor.numel() for tensor in network.weights().values()) == 79_043
    assert network(torch.zeros(5, 300, 3)).shape == (5, 3)
    assert network(torch.zeros(1, 300, 3)).dtype == torch.float32
    assert MULTIPLIERS == DISCRETE_MULTIPLIERS


def test_new_weights_are_keras_defaults() -> None:
    network = ARCNetwork(seed=3)
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


def test_a_seed_decides_the_weights_and_nothing_else() -> None:
    randomness = toys.global_randomness()
    first, again, other = ARCNetwork(1), ARCNetwork(1), ARCNetwork(2)
    assert toys.same(randomness, toys.global_randomness())
    assert toys.same(first.state_dict(), again.state_dict())
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_training_leaves_the_second_biases_alone() -> None:
    network = ARCNetwork()
    before = {name: tensor.clone() for name, tensor in network.weights().items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    curves = torch.from_numpy(np.stack([random_curves(seed) for seed in range(4)]))
    torch.nn.functional.cross_entropy(network(curves), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert all(not torch.equal(tensor, before[name]) for name, tensor in network.weights().items())
    assert not any(tensor.any() for name, tensor in network.named_parameters() if "bias_hh" in name)


def test_the_order_of_a_batch_does_not_matter() -> None:
    network = ARCNetwork()
    curves = [random_curves(seed) for seed in range(3)]
    with torch.inference_mode():
        together = network(torch.from_numpy(np.stack(curves))).numpy()
    np.testing.assert_allclose(together, [logits(network, one) for one in curves], atol=1e-5)


def test_fingerprint() -> None:
    network = ARCNetwork()
    first = network.fingerprint()
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert pickle.loads(pickle.dumps(network)).fingerprint() == first
    with torch.no_grad():
        network.dense2.bias[1] += 1e-6
    assert network.fingerprint() != first


# -- the authors' file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_keras_weights_act_as_in_keras(tmp_path: Path, suffix: str) -> None:
    for seed in range(3):
        contents = arrays(seed)
        network = load_weights(write_keras(tmp_path / f"{seed}{suffix}", contents))
        for curves in (random_curves(seed), np.zeros((300, 3))):
            expected = keras_logits(contents, curves)
            assert logits(network, curves) == pytest.approx(expected, abs=1e-5)
            with torch.inference_mode():
                double = load_weights(tmp_path / f"{seed}{suffix}").double()(torch.from_numpy(curves).double()[None])
            assert double[0].numpy() == pytest.approx(expected, abs=1e-12)


def test_keras_weights_of_another_precision(tmp_path: Path) -> None:
    doubles = {name: array.astype(np.float64) for name, array in arrays().items()}
    single = load_weights(write_keras(tmp_path / "single.h5", arrays()))
    assert load_weights(write_keras(tmp_path / "double.h5", doubles)).fingerprint() == single.fingerprint()


@needs_authors
def test_golden_values_of_the_authors_network() -> None:
    contents = read_keras(AUTHORS)
    network = load_weights(AUTHORS)
    nothing = np.zeros((300, 3))
    only_lr = np.tile([0, 0, 1], (300, 1))
    for curves, golden in ((only_lr, [0.611653, 0.273109, 0.115238]), (nothing, [0.459823, 0.288553, 0.251625])):
        assert softmax(keras_logits(contents, curves)) == pytest.approx(golden, abs=1e-6)
        assert softmax(logits(network, curves)) == pytest.approx(golden, abs=2e-6)
    for seed in range(3):
        curves = random_curves(seed)
        assert softmax(logits(network, curves)) == pytest.approx(softmax(keras_logits(contents, curves)), abs=1e-6)


@needs_authors
@pytest.mark.parametrize(
    ("lrs", "choice", "probability"), [((0.1, 0.1, 0.1), 0, 0.985), ((0.1, 0.0618, 0.0382), 2, 0.902)]
)
def test_golden_decisions_of_the_authors_network(lrs: tuple[float, ...], choice: int, probability: float) -> None:
    train = np.exp(-np.arange(300) / 30).reshape(3, 100)
    curves = encode(list(train), [[cycle[-1]] * 3 for cycle in train], lrs)
    assert softmax(logits(load_weights(AUTHORS), curves))[choice] == pytest.approx(probability, abs=6e-4)


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_keras(tmp_path / "arc.h5", arrays())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InvalidArgumentError, match=r'arc\.h5 is a Keras file.*needs h5py.*pip install "lr-gym\[arc\]"'):
        load_weights(path)
    load_weights(DEFAULT_WEIGHTS)


def rename(contents: Arrays, name: str, new: str) -> Arrays:
    return {new if key == name else key: array for key, array in contents.items()}


KERNEL = "dense_1/dense_1/kernel:0"
BAD_KERAS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "an array is missing": (
        lambda c: {k: v for k, v in c.items() if k != KERNEL},
        "does not hold the weights of ARC's",
    ),
    "another name": (lambda c: rename(c, KERNEL, "dense_2/dense_2/kernel:0"), "does not hold the weights of ARC's"),
    "a group in its place": (lambda c: rename(c, KERNEL, f"{KERNEL}/more"), f"{KERNEL} must be numbers of shape"),
    "another shape": (lambda c: c | {KERNEL: c[KERNEL].T}, r"numbers of shape \(32, 3\), got .*\(3, 32\)"),
    "too large to read": (lambda c: c | {KERNEL: np.zeros((9, 9, 9))}, r"shape \(32, 3\), got .*\(9, 9, 9\)"),
    "whole numbers": (lambda c: c | {KERNEL: np.ones((32, 3), int)}, "must be numbers of shape"),
    "text": (lambda c: c | {KERNEL: np.full((32, 3), b"x")}, "must be numbers of shape"),
    "NaN": (lambda c: c | {KERNEL: c[KERNEL] * np.nan}, r"dense2\.weight must be finite"),
    "beyond float32": (lambda c: c | {KERNEL: np.full((32, 3), 1e300)}, r"dense2\.weight must be finite"),
    "nothing": (lambda c: {}, "does not hold the weights of ARC's"),
}


@pytest.mark.parametrize("case", BAD_KERAS)
def test_bad_keras_files(case: str, tmp_path: Path) -> None:
    change, message = BAD_KERAS[case]
    path = write_keras(tmp_path / "arc.h5", change(arrays()))
    with pytest.raises(FileFormatError, match=message):
        load_weights(path)


def test_truncated_keras_files(tmp_path: Path) -> None:
    whole = write_keras(tmp_path / "whole.h5", arrays()).read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"{length}.h5"
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="does not hold the weights of ARC's"):
            load_weights(path)


# -- our files ---------------------------------------------------------------------------------------------------------


def test_there_and_back(tmp_path: Path) -> None:
    network = ARCNetwork(seed=5)
    path = tmp_path / "new folder" / "weights.safetensors"
    save_weights(network, path, {"trained on": "nothing", "seed": "5"})
    assert os.listdir(path.parent) == ["weights.safetensors"]
    copied = load_weights(path)
    assert toys.same(copied.state_dict(), network.state_dict())
    assert copied.fingerprint() == network.fingerprint()
    assert [p.requires_grad for p in copied.parameters()] == [p.requires_grad for p in network.parameters()]
    assert logits(copied, random_curves(1)).tolist() == logits(network, random_curves(1)).tolist()
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"trained on": "nothing", "seed": "5"}
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    assert sum(tensor.numel() for tensor in stored.values()) == 79_043
    assert not any("bias_hh" in name for name in stored)


def test_without_metadata(tmp_path: Path) -> None:
    save_weights(ARCNetwork(), str(tmp_path / "w.safetensors"))
    assert load_weights(str(tmp_path / "w.safetensors")).fingerprint() == ARCNetwork().fingerprint()


def test_weights_of_the_authors_as_our_file(tmp_path: Path) -> None:
    network = load_weights(write_keras(tmp_path / "arc.h5", arrays()))
    save_weights(network, tmp_path / "arc.safetensors")
    assert load_weights(tmp_path / "arc.safetensors").fingerprint() == network.fingerprint()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(ARCNetwork(1), path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_weights(ARCNetwork(2), path)
    assert load_weights(path).fingerprint() == ARCNetwork(1).fingerprint()
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_the_weights_of_the_package() -> None:
    assert DEFAULT_WEIGHTS.suffix == ".safetensors"
    assert sum(tensor.numel() for tensor in load_weights(DEFAULT_WEIGHTS).weights().values()) == 79_043


Tensors = dict[str, torch.Tensor]
BAD_TENSORS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "one is missing": (
        lambda t: {k: v for k, v in t.items() if k != "conv1.bias"},
        r"missing \['conv1\.bias'\], unknown \[\]",
    ),
    "one too many": (
        lambda t: t | {"lstm.bias_hh_l0": torch.zeros(256)},
        r"missing \[\], unknown \['lstm\.bias_hh_l0'\]",
    ),
    "another shape": (
        lambda t: t | {"conv1.bias": torch.zeros(33)},
        r"conv1\.bias must be .* shape \(32,\); got .*\(33,\)",
    ),
    "another type": (
        lambda t: t | {"conv1.bias": torch.zeros(32).double()},
        r"float32 of shape .*; got torch\.float64",
    ),
    "whole numbers": (lambda t: t | {"conv1.bias": torch.zeros(32).long()}, r"float32 of shape .*; got torch\.int64"),
    "NaN": (lambda t: t | {"conv1.bias": torch.full((32,), torch.nan)}, r"conv1\.bias must be finite"),
    "infinity": (lambda t: t | {"conv1.bias": torch.full((32,), -torch.inf)}, r"conv1\.bias must be finite"),
    "nothing": (lambda t: {}, "does not hold the weights of ARC's network: missing"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors(case: str, tmp_path: Path) -> None:
    change, message = BAD_TENSORS[case]
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors.torch.save(change(ARCNetwork().weights())))
    with pytest.raises(FileFormatError, match=message):
        load_weights(path)


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(ARCNetwork(), path)
    whole = path.read_bytes()
    pieces = [whole[:length] for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1)]
    pieces += [b"\x80\x04}." * 100, struct.pack("<Q", 2**62) + whole[8:], whole + b"more"]
    unknown_type = b'{"x":{"dtype":"Q7","shape":[1],"data_offsets":[0,4]}}'
    pieces.append(struct.pack("<Q", len(unknown_type)) + unknown_type + b"0000")
    for content in pieces:
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="cannot be read as safetensors"):
            load_weights(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    for name in ("missing.safetensors", "missing.h5"):
        with pytest.raises(FileFormatError, match=f"there is no file .*{name}"):
            load_weights(tmp_path / name)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(FileFormatError, match=r"there is no file .*folder\.safetensors"):
        load_weights(tmp_path / "folder.safetensors")
    for name in ("weights.pt", "weights", "weights.SAFE"):
        (tmp_path / name).write_bytes(pickle.dumps({}))
        with pytest.raises(FileFormatError, match=r"must be .*: \.safetensors, \.h5 or \.hdf5"):
            load_weights(tmp_path / name)
