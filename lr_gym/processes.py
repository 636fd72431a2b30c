"""What every worker process does first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import torch


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_worker() -> None:
    """Make this process a worker: one torch thread, deaf to Ctrl-C (its parent decides), gone with its parent."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)  # a killed parent cannot ask; waiting for work that never comes would last for ever

        threading.Thread(target=follow, daemon=True).start()
