"""A training run that can go back to an earlier state: snapshots of everything that its future depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from lr_gym.checks import check_whole
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.gradients import gradients
from lr_gym.trainee.optimizer_state import copy_state, write_state
from lr_gym.trainee.randomness import TorchStream, derived_seeds
from lr_gym.trainee.records import Snapshot
from lr_gym.trainee.run import TrainingRun


class RewindableRun(TrainingRun):
    """A training run that goes back and forth in time. Training on after a restore is bit-identical on the CPU."""

    def snapshot(self) -> Snapshot:
        """Return everything that the future depends on: weights, buffers, optimizer, random streams, data cursor.

        Also what network, loss and optimizer keep in attributes of their own, if they do (`lr_gym.trainee.hidden`).
        """
        return Snapshot(
            tensors=self._copy_of_tensors(),
            optimizer=copy_state(self.optimizer),
            batches=self._batches.get_state(),
            noise=self._noise.get_state(),
            updates=self.updates,
            lr=self._lr,
            predictions=self._meter.predictions,
            best=self._meter.best,
            hidden=self._hidden.copy() if self.findings.remembers else [],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; training on from there is bit-identical on the CPU. It can be restored again."""
        self._write_network(snapshot)
        self._batches.set_state(snapshot.batches)
        self._noise.set_state(snapshot.noise)
        self.updates, self.lr = snapshot.updates, snapshot.lr
        self._meter.predictions, self._meter.best = snapshot.predictions, snapshot.best

    def revert(self, snapshot: Snapshot, *, replay: bool = False) -> None:
        """Take over the network and the optimizer of a snapshot, without going back in time.

        Weights, buffers and the optimizer's state become the snapshot's; the count of updates, the learning rate, the
        order of the data, the random streams and the best weights so far go on. So an agent can undo a decision, or
        move to another branch, within the budget of the episode.

        Args:
            snapshot: Where to take them from.
            replay: Also go back in the order of the data and the random streams: the coming updates see the same
                batches as those after the snapshot did.
        """
        self._write_network(snapshot)
        self.lr = self._lr  # the optimizer's state holds the snapshot's
        if replay:
            self._batches.set_state(snapshot.batches)
            self._noise.set_state(snapshot.noise)

    def reseed(self, seed: int) -> None:
        """Draw the order of the data and the noise from new random streams from here on.

        What was left of the running epoch's order is forgotten. So branches from one snapshot can see different
        batches, like trainings that are started anew.

        Args:
            seed: Decides both streams. Non-negative.
        """
        check_whole("seed", seed, 0)
        order_seed, noise_seed = derived_seeds(seed, 2)
        self._batches.restart(order_seed)
        self._noise.set_state(TorchStream(noise_seed, self.device).get_state())

    def _write_network(self, snapshot: Snapshot) -> None:
        self._write_tensors(snapshot.tensors)
        if self.findings.remembers:
            self._hidden.write(snapshot.hidden)
        write_state(self.optimizer, snapshot.optimizer)
        self.optimizer.zero_grad()

    @contextlib.contextmanager
    def preserved(self) -> Iterator[None]:
        """Let a block train, probe or evaluate; then undo it, even if it raises. Its cost stays counted."""
        before = self.snapshot()
        try:
            yield
        finally:
            self.restore(before)

    @gradients()
    def peek_batches(self, count: int) -> Sequence[Batch]:
        """Return the training batches that come next, without consuming them.

        A batch is gathered when it is looked at: many of them take no more memory than one.
        """
        batches: Sequence[Batch] = self._batches.peek(count)
        return batches
