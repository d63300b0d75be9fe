"""How the threads of libraries wait for each other; set when raydrgn is imported, before torch.

By default threads of OpenMP spin for milliseconds when they wait. Where other processes have the
cores, nearly all of the time goes into that: two processes of two threads each, on two cores, took
154 s for fits that took 12 s beside each other with this setting, and 10 s alone. It costs nothing
on an idle machine.
"""

import os

QUIET_THREADS = {"GOMP_SPINCOUNT": "1000"}
"""Environment in which threads that wait for each other soon give up their core."""


def limit_spinning() -> None:
    """Set how threads of this process and its children wait, where the environment does not say."""
    for name, value in QUIET_THREADS.items():
        os.environ.setdefault(name, value)
