"""Trainings of the page of own loops that others have published."""

import numpy as np
import pytest
import torch

from scripts.own_loops import trainings


@pytest.mark.parametrize("size", [2, 3, 10])
def test_a_rotation_keeps_lengths_and_mirrors_nothing(size: int) -> None:
    turned = trainings.rotation(np.random.RandomState(1), size)
    np.testing.assert_allclose(turned @ turned.T, np.eye(size), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1.0)


def test_deepobs_quadratic_has_its_eigenvalues_and_its_published_loss_after_an_epoch() -> None:
    found = []
    for seed in range(5):
        training = trainings.make("quadratic", seed)
        optimizer = training.optimizer(training.model.parameters(), 0.0398)
        for _ in range(7):
            inputs, targets = next(training.batches)
            optimizer.zero_grad()
            training.loss(training.model(inputs), targets).backward()
            optimizer.step()
        found.append(training.loss(training.model(training.test[0]), training.test[1]).item())
    eigenvalues = torch.linalg.eigvalsh(training.model.hessian)
    assert ((eigenvalues > 30) & (eigenvalues < 60)).sum() == 10
    assert ((eigenvalues > 0) & (eigenvalues < 1)).sum() == 90
    assert np.mean(found) == pytest.approx(141.8, rel=0.005)  # mean of ten seeds there
