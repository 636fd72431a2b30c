"""Precautions at work in an environment: a start that is looked for, and a way back from a broken interval."""

from __future__ import annotations

from lr_gym.control.edge import find_edge, start_of
from lr_gym.control.measuring import Measurement
from lr_gym.control.precautions import Precautions
from lr_gym.control.process import DecisionProcess
from lr_gym.control.trouble import Vital, trouble, variation
from lr_gym.control.way_back import WayBack, began_broken, doubtful
from lr_gym.tasks.parameter_free import has_direction
from lr_gym.trainee import Trainee
from lr_gym.trainee.records import Snapshot


class Care:
    """Looks after one trainee.

    Attributes:
        restored: Intervals that were taken back.
    """

    def __init__(self, precautions: Precautions, trainee: Trainee, process: DecisionProcess) -> None:
        """Begin with an untrained network, whose episode has begun; set its start.

        Args:
            precautions: What to do.
            trainee: Who is looked after.
            process: Its decisions.
        """
        self.restored = 0
        self._trainee, self._process = trainee, process
        # Copies, and what was measured then; nothing was of the untrained network.
        self._way: WayBack[tuple[Snapshot, Measurement | None]] | None = None
        if precautions.start == "probe" and has_direction(trainee.optimizer):
            self._probe()
        if precautions.restore:
            self._untrained = Vital(trainee.best.val_loss, float(variation(trainee.predictions)))
            self._way = WayBack((trainee.snapshot(), None))

    def _probe(self) -> None:
        """Start at a hundredth of the edge, which is also the upper bound; where there is none, as low as allowed."""
        trainee, settings = self._trainee, self._process.settings
        first, *others = trainee.peek_batches(3)
        direction = trainee.update_direction(first)
        edge = find_edge(
            lambda lr: trainee.vital(lr, others, direction),
            trainee.vital(0.0, others, direction),
            settings.min_lr,
            settings.max_lr,
        )
        if edge is not None:
            self._process.brake.cap = edge
        trainee.lr = start_of(edge, settings.min_lr, settings.max_lr)

    def mended(self, measurement: Measurement) -> Measurement:
        """Train an interval again, while it breaks the training and there are updates left.

        Args:
            measurement: What was measured after the interval.

        Returns:
            What was measured after the last try. Where that was undone too, what was measured of what is left, if
            anything.
        """
        trainee, process, way = self._trainee, self._process, self._way
        if way is None:
            return measurement
        while self._broken(measurement):
            (sound, known), _ = way.go_back(
                began_broken=began_broken(self._untrained, measurement, _losses(measurement))
            )
            trainee.revert(sound)
            trainee.predictions = sound.predictions
            process.take_back(measurement)
            self.restored += 1
            if trainee.updates >= trainee.task.budget:
                return measurement if known is None else known
            measurement = trainee.train_interval()
        way.go_on((trainee.snapshot(), measurement), doubtful=doubtful(self._untrained, _losses(measurement)))
        return measurement

    def _broken(self, measurement: Measurement) -> bool:
        now = Vital(measurement.features.val_loss, float(variation(self._trainee.predictions)))
        ceiling = self._trainee.task.loss_ceiling
        return trouble(self._untrained, now, _losses(measurement), ceiling) is not None


def _losses(measurement: Measurement) -> dict[str, float]:
    """Return the losses that were measured, by the names of the features."""
    return {name: getattr(measurement.features, name) for name in ("train_loss", "val_loss")}
