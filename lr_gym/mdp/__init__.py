"""The decision process as pure functions: what is observed, what an action means, what is rewarded."""
