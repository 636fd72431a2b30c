"""Many trainees of one task, trained together: in stacks where that is faster, else one after another."""

from __future__ import annotations

from collections.abc import Sequence

from lr_gym.checks import check_whole
from lr_gym.control.measuring import Measurement
from lr_gym.errors import InvalidArgumentError
from lr_gym.trainee.stack import Stack
from lr_gym.trainee.stack_size import stack_size
from lr_gym.trainee.trainee import Trainee


class Population:
    """Trainees of one task that train in step, each with its own weights, data order, learning rate and clock.

    A member whose training blows up does no harm to the others. Members are whole trainees: between intervals agents
    may look ahead with each of them.

    Attributes:
        stack: How many members are computed at once.
    """

    def __init__(self, members: Sequence[Trainee], *, stack: int | None = None) -> None:
        """Make a population.

        Args:
            members: At least one, all of one task on one device; the population takes them over.
            stack: How many are computed at once; the last stack may be smaller. By default all on a GPU, on a CPU 16
                for small networks of dense layers and 1 for others, also where they cannot be stacked.

        Raises:
            InvalidArgumentError: There is no member, they differ in task or device, or the network, loss or
                optimizer cannot be stacked.
        """
        if not members:
            raise InvalidArgumentError("a population needs at least one trainee, got none")
        check_whole("stack", stack, optional=True)
        self._members = list(members)
        for number, member in enumerate(members):
            self._check(member, self._members[:number])
        self.stack = min(int(stack or stack_size(members[0], len(members))), len(members))
        self._stacks: list[Stack[Trainee]] = []
        if self.stack > 1:
            starts = range(0, len(members), self.stack)
            try:
                self._stacks = [Stack(self._members[start : start + self.stack]) for start in starts]
            except InvalidArgumentError:
                if stack is not None or members[0].device.type != "cpu":
                    raise
                self.stack = 1  # nobody asked for a stack, and on a CPU little is lost

    def _check(self, newcomer: Trainee, others: Sequence[Trainee]) -> None:
        """Check that a trainee can be a member beside others."""
        if any(newcomer is member for member in others):
            raise InvalidArgumentError("a trainee cannot be a member twice; make one for each place")
        for name in ("task", "device", "arithmetic", "data"):
            mine, theirs = getattr(newcomer, name), getattr(self._members[0], name)
            if not (mine is theirs or (name != "data" and mine == theirs)):
                raise InvalidArgumentError(
                    f"the trainees of a population must share task, data, device and arithmetic; the {name} differs: "
                    "train different ones in environments of their own"
                )

    @property
    def members(self) -> tuple[Trainee, ...]:
        """The trainees, in order."""
        return tuple(self._members)

    def put(self, number: int, trainee: Trainee) -> None:
        """Put another trainee in the place of a member, whose own training is over.

        Args:
            number: Number of the place, from 0.
            trainee: A trainee with the same task, data, device and arithmetic.

        Raises:
            InvalidArgumentError: There is no such place, or the trainee does not fit.
        """
        if not 0 <= number < len(self._members):
            raise InvalidArgumentError(f"there are places 0 to {len(self._members) - 1}, got {number!r}")
        self._check(trainee, [member for place, member in enumerate(self._members) if place != number])
        self._members[number] = trainee
        if self._stacks:
            self._stacks[number // self.stack].put(number % self.stack, trainee)

    def train_interval(self, active: Sequence[bool] | None = None) -> list[Measurement | None]:
        """Train for one decision interval, then measure.

        Args:
            active: For each member whether its training goes on; all by default. A member whose training is over may
                still be computed with the others. Put another trainee in its place before it is to train again.

        Returns:
            For each member what was measured; None where it is not active.

        Raises:
            InvalidArgumentError: `active` has another length.
        """
        active = [True] * len(self._members) if active is None else active
        if len(active) != len(self._members):
            raise InvalidArgumentError(f"active needs an entry for each of {len(self._members)} members, got {active}")
        if not self._stacks:
            return [m.train_interval() if goes_on else None for m, goes_on in zip(self._members, active, strict=True)]
        measurements: list[Measurement | None] = []
        for stack in self._stacks:
            share = active[len(measurements) : len(measurements) + len(stack.members)]
            measurements += stack.train_interval(share) if any(share) else [None] * len(share)
        return measurements
