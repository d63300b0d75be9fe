"""What a training process is given: the same options of ``train`` and ``sweep``."""

from typing import Annotated

from raydrgn.settings import Setting

CpusPerTrainingProcess = Annotated[
    int | None,
    Setting("CPU cores of each training process (default: those of the nodes are divided).", min=1),
]

GpusPerTrainingProcess = Annotated[
    float | None,
    Setting(
        "GPUs of each training process; a fraction lets several share one, and 0 computes on CPUs "
        "(default: one, or a fraction where there are fewer GPUs than processes).",
        min=0,
    ),
]
