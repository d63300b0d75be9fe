"""``raydrgn convergence``."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from raydrgn.cli.console import console, messages, metering
from raydrgn.cli.decoding import end_with
from raydrgn.cli.options import (
    Address,
    EpochArgument,
    Flip,
    Invert,
    LowPass,
    Out,
    Overwrite,
    PixelSize,
    RunFolder,
    SmallBox,
    Workers,
)

if TYPE_CHECKING:
    from raydrgn.convergence.epochs import ConvergenceSettings, Study
    from raydrgn.remote.session import Allocation
    from raydrgn.run.reader import RunReader

POLL_SECONDS = 5.0


def convergence(
    run: RunFolder,
    epoch: EpochArgument = None,
    out: Out = None,
    every: Annotated[
        int, typer.Option(min=1, help="Epochs between two that are embedded and decoded.")
    ] = 5,
    keep_volumes: Annotated[
        bool, typer.Option("--keep-volumes", help="Write the volumes into vols.N.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow a run in training; say when to stop.")
    ] = False,
    flip: Flip = False,
    invert: Invert = False,
    box: SmallBox = None,
    low_pass: LowPass = None,
    pixel_size: PixelSize = None,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Has training converged? The protocol's criteria, each with a verdict by a stated rule.

    Writes RUN/convergence.N: the loss, the latent space at intervals, the shifts of latents from
    epoch to epoch, and how volumes at ten representative points agree with those of the epochs
    before, as figures and tables in one report.html. With --watch a line is said for every new
    epoch; once losses and latents have settled, or training has ended, volumes are compared too.
    """
    import os

    from raydrgn.convergence.epochs import ConvergenceSettings
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.errors import ConfigError
    from raydrgn.remote.resources import Resources
    from raydrgn.remote.session import allocated
    from raydrgn.run.reader import open_run

    if watch and (epoch is not None or out):
        raise ConfigError("--watch follows the newest epoch into RUN/convergence.N; leave out "
                          "EPOCH and --out.")  # fmt: skip
    opened = open_run(run)
    options = VolumeOptions(box=box, flip=flip, invert=invert, low_pass_angstrom=low_pass)
    options.check(opened.box)
    settings = ConvergenceSettings(
        every=every, keep_volumes=keep_volumes, options=options, pixel_size_angstrom=pixel_size
    )
    in_process = workers == 1 and not (address or os.environ.get("RAY_ADDRESS"))
    resources = Resources(num_workers=workers)
    with allocated(resources, address, in_process=in_process) as allocation:
        if watch:
            study = _watch(opened, settings, allocation, overwrite=overwrite)
        else:
            study = _whole(opened, epoch, settings, allocation, out=out, overwrite=overwrite)
    end_with(study.failures)


def _whole(
    opened: "RunReader",
    epoch: int | None,
    settings: "ConvergenceSettings",
    allocation: "Allocation | None",
    *,
    out: str | None = None,
    overwrite: bool,
) -> "Study":
    """Do the whole analysis of one epoch, and say what came of it."""
    from raydrgn.convergence import epochs as convergence_study
    from raydrgn.convergence.followed_volumes import follow_volumes
    from raydrgn.convergence.report import verdict, write_convergence
    from raydrgn.reporting.result_folder import ResultFolder

    epochs, _ = convergence_study.choose_epochs(opened, epoch, settings.every)
    folder = ResultFolder(out or opened.files.results("convergence", epochs[-1]))
    folder.begin({"epoch": epochs[-1], **settings.to_dict()}, overwrite=overwrite)
    with metering("pieces") as meter:
        study = convergence_study.study_latents(
            opened, settings, folder, epoch=epochs[-1], allocation=allocation, progress=meter.show
        )
        follow_volumes(opened, study, settings, folder, allocation=allocation, progress=meter.show)
    convergence_study.judge(study)
    state = opened.decoder(study.epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
    made_at = state.pixel_size_angstrom * state.box / (settings.options.box or state.box)
    write_convergence(opened, study, folder, pixel_size_angstrom=made_at)
    for finding in study.findings:
        console.print(f"{finding.criterion}: {finding.said}", highlight=False)
    console.print(verdict(study).split(". ")[0].rstrip(".") + ".", highlight=False, soft_wrap=True)
    for caution in study.cautions:
        console.print(f"[bold yellow]caution:[/] {caution}", highlight=False, soft_wrap=True)
    console.print(f"→ {folder.at('report.html')}", highlight=False, soft_wrap=True)
    return study


def _watch(
    opened: "RunReader",
    settings: "ConvergenceSettings",
    allocation: "Allocation | None",
    *,
    overwrite: bool,
) -> "Study":
    """Follow a run until it has converged, or has ended."""
    from raydrgn.convergence import epochs as studies
    from raydrgn.io import storage

    seen, examined = 0, 0
    if len(opened.files.epochs()) < studies.LEAST_EPOCHS:
        messages.print(f"waiting for {studies.LEAST_EPOCHS} epochs; Ctrl-C ends", highlight=False)
    while True:
        ended = storage.exists(opened.files.weights(None))  # written when training is over
        epochs = opened.files.epochs()
        new = len(epochs) >= studies.LEAST_EPOCHS and epochs[-1] > seen
        if new:
            seen = epochs[-1]
            findings = studies.judge_latents(opened, epochs)
            moving = [f.criterion for f in findings if f.is_judged and f.settled_from is None]
            said = "still changing: " + ", ".join(moving) if moving else "latents have settled"
            messages.print(f"epoch {seen}: {said}", highlight=False, soft_wrap=True)
            due = not moving and seen >= examined + settings.every
            if due and not ended:
                examined = seen
                study = _whole(opened, seen, settings, allocation, overwrite=overwrite)
                if study.is_converged:
                    console.print(
                        f"Training can stop: by these criteria epoch {seen} is enough.",
                        highlight=False,
                    )
                    return study
        if ended:
            return _whole(opened, None, settings, allocation, overwrite=overwrite)
        if not new:
            time.sleep(POLL_SECONDS)
