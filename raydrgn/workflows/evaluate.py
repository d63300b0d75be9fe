"""``evaluate``: a run on simulated particles against the truth."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.evaluation.evaluation import Evaluation
    from raydrgn.reporting.result_folder import ResultFolder


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of ``evaluate``."""

    run: Annotated[str, Setting("Run directory, of raydrgn or cryoDRGN.", is_argument=True)]

    truth: Annotated[str, Setting("Folder truth/ of the simulation.")]

    epoch: Annotated[
        int | None, Setting("Epoch; the last finished one by default.", project="epoch")
    ] = None

    out: Annotated[
        str | None,
        Setting("Folder for the results, instead of the one in RUN.", flags=("-o", "--out")),
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """Agreement of a run with the truth; the folder has it as files."""

    folder: "ResultFolder"
    evaluation: "Evaluation"


def run(
    settings: EvaluateSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> EvaluateResult:
    """Compare a run with the truth, and write measures and curves into the result folder.

    Earlier results there are replaced: all of them are made anew by each call.

    Raises:
        RaydrgnError: If the run or the truth do not allow it.
    """
    from raydrgn.evaluation.evaluation import evaluate
    from raydrgn.evaluation.results import write_evaluation
    from raydrgn.io import storage
    from raydrgn.model.device import gpu_problem
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run)
    executor.check_pool(gpu_problem)
    folder = ResultFolder(settings.out or opened.results("evaluate", opened.epoch(settings.epoch)))
    folder.check_own()  # before the work
    folder.require_writable()
    progress("evaluating", 0, 1)
    found = evaluate(opened, settings.truth, epoch=settings.epoch, executor=executor)
    progress("evaluating", 1, 1)
    folder.begin(
        {"truth": storage.absolute(settings.truth)},
        made_from=opened.identity(found.epoch),
        overwrite=True,
    )
    write_evaluation(found, folder, box=opened.box)
    folder.finish()
    return EvaluateResult(folder=folder, evaluation=found)
