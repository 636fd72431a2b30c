"""A controller in the Trainer of transformers: a small vision transformer learns handwritten digits, beside a cosine.

uv run examples/transformers_tiny.py
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset
from transformers import TrainingArguments, ViTConfig, ViTForImageClassification

from lr_gym.integrations.transformers import LRControllerCallback, LRControllerTrainer

EPOCHS = 20


class Digits(Dataset[dict[str, Any]]):
    """Some of the digits of scikit-learn, 8 x 8 pixels each."""

    def __init__(self, first: int, last: int) -> None:
        digits = load_digits()
        self.x = torch.tensor(digits.images[first:last, None], dtype=torch.float32) / 16
        self.y = torch.tensor(digits.target[first:last])

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self.x[index], "labels": self.y[index]}


def train(agent: str, lr: float, seed: int = 0) -> float:
    """Train; return the accuracy on the last 360 digits, which the network has not seen."""
    torch.manual_seed(seed)
    size: dict[str, Any] = {
        "num_labels": 10,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    model = ViTForImageClassification(ViTConfig(image_size=8, patch_size=2, num_channels=1, **size))
    test = Digits(1437, 1797)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            learning_rate=lr,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=300,  # the whole validation in one batch
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        callback = LRControllerCallback(agent, validation=Digits(1137, 1437), restore=agent == "universal")
        LRControllerTrainer(model, arguments, train_dataset=Digits(0, 1137), callbacks=[callback]).train()
    model.train(False)
    with torch.no_grad():
        return float((model(test.x).logits.argmax(1) == test.y).float().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)  # faster for a network as small as this
    print(f"{'initial lr':>12} {'universal':>10} {'cosine':>10}")
    for lr in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        print(f"{lr:12g} {train('universal', lr):10.3f} {train('cosine', lr):10.3f}")
