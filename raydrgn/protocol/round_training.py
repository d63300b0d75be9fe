"""The training of a round, followed epoch by epoch; when it goes on, and which epoch is taken."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSettings
from raydrgn.io.storage import Uri
from raydrgn.protocol.decisions import Decision
from raydrgn.protocol.project import Project, Step, StepRecord
from raydrgn.protocol.rounds import Round
from raydrgn.protocol.settings import FEWEST_EPOCHS
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.run.directory import RunDirectory
from raydrgn.run.manifest import Manifest

if TYPE_CHECKING:
    from raydrgn.convergence.criteria import Finding
    from raydrgn.workflows.convergence import ConvergenceResult

log = logging.getLogger(__name__)

LONGEST = 2
"""A training goes on to this many times its planned epochs at most."""

STEPS = {"vae": 2, "mfa": 5}
"""It goes on by this part of its planned epochs: a half, a fifth."""

COMPARED = 5
"""Epochs that convergence embeds and decodes, or one more: the interval is a fifth of the run."""

RULE = (
    "Losses and latents are judged after each epoch while a round trains, and volumes too at the "
    "end of the planned epochs of an autoencoder. It is not stopped before: the loss falls most at "
    "the end of the learning-rate schedule, and the volumes of a mixture hardly change after its "
    "planned epochs. What has not converged then goes on, an autoencoder by half of its planned "
    "epochs (its learning rate rises and falls once more), a mixture by a fifth, until all "
    "criteria have converged, an overfitting warning appears, or it has been trained twice as long "
    "as planned. The last epoch is taken, or, after an overfitting warning, the one before the "
    "rise."
)


def train_round(
    project: Project,
    this: Round,
    *,
    after: list[Step],
    executor: Executor,
    progress: Progress,
) -> Step:
    """Train by ``RULE``, and choose the epoch.

    The result has ``epochs``, ``epoch``, ``is_converged``, ``particles`` and ``why``.
    """
    given = {
        "training": this.plan.in_words(),
        "seed": this.seed,
        "uninvert_data": this.uninvert_data,
        "drop_bad": this.drop_bad,
        "half_size_shifts": this.source.half_size_shifts,
    }

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        epochs, found = _train_until_converged(this, folder, executor, progress)
        return _result_of(this, folder, epochs, found)

    trained = project.step(
        f"round {this.number}",
        given,
        make,
        after=after,
        folder=f"round{this.number}",
        find_lost=lambda record, folder: _find_lost(project, this, record, folder),
        continues=lambda record: _continues(project, this, given, record),
    )
    _follow_images(this, trained.folder)
    _warn_of_more_epochs(project, this, trained)
    return _with_decided_epoch(project, this, trained)


def _train_until_converged(
    this: Round, folder: Uri, executor: Executor, progress: Progress
) -> tuple[int, "ConvergenceResult"]:
    """Train as ``RULE`` has it; return the number of epochs, and how they compare."""
    plan = this.plan
    epochs, longest = plan.epochs, LONGEST * plan.epochs
    more = max(1, plan.epochs // STEPS[plan.method])
    on_epoch = partial(_log_open_criteria, this, folder)
    while True:
        _train(this, folder, epochs, executor, _EpochProgress(progress, folder, epochs, on_epoch))
        if plan.method == "mfa":  # nothing is judged of its volumes
            found, is_open = None, any(finding.is_open for finding in judge(folder, epochs))
        else:
            found = _compare(folder, epochs, executor, progress)
            is_open = not (found.convergence.is_converged or found.convergence.warnings)
        if not is_open or epochs >= longest:
            return epochs, found or _compare(folder, epochs, executor, progress)
        epochs = min(epochs + more, longest)
        log.info("round %d has not converged: it goes on to epoch %d", this.number, epochs)


def _result_of(
    this: Round, folder: Uri, epochs: int, found: "ConvergenceResult"
) -> tuple[dict[str, Any], list[str]]:
    """Return the result of a training, with the epoch that is taken, and its files."""
    from raydrgn.run.reader import open_run

    planned, convergence = this.plan.epochs, found.convergence
    epoch, reasons = epochs, [found.verdict]
    if epochs > planned:
        reasons.append(f"It went on after the {planned} planned epochs.")
    if not convergence.is_converged and epochs >= LONGEST * planned:
        reasons.append("It was not trained longer than twice as planned.")
    if convergence.warnings:
        epoch = convergence.before_overfitting
        reasons += convergence.warnings
    of_run = RunDirectory(folder)
    needed = of_run.weights(epoch), of_run.latents(epoch), of_run.particles
    result = {
        "epochs": epochs,
        "epoch": epoch,
        "is_converged": convergence.is_converged,
        "why": " ".join(reasons),
        "particles": len(open_run(folder).latents(epoch)),
    }
    return result, [PurePosixPath(uri).name for uri in needed]


def _find_lost(project: Project, this: Round, record: StepRecord, folder: Uri) -> Uri | None:
    """Return a file of the epoch that is taken, if it is lost."""
    chosen = _chosen_epoch(project, this, folder)
    epoch = record.result["epoch"] if chosen is None else chosen.value.get("epoch")
    if chosen is not None and epoch not in RunDirectory(folder).epochs():
        return None  # which is another message: the person corrects what was chosen
    return _lost_file(folder, epoch, has_estimates=this.plan.method == "mfa")


def _continues(project: Project, this: Round, given: Mapping[str, Any], record: StepRecord) -> bool:
    """Return whether a training goes on with one that was planned for fewer epochs."""
    plan = this.plan
    shorter = (replace(plan, epochs=n).in_words() for n in range(FEWEST_EPOCHS, plan.epochs))
    if record.inputs not in [{**given, "training": words} for words in shorter]:
        return False
    newest = max(RunDirectory(project.at(record.folder)).epochs(), default=0)
    return 1 <= newest <= plan.epochs


def _warn_of_more_epochs(project: Project, this: Round, trained: Step) -> None:
    """Log that another command has trained the run for longer, and how to take that."""
    records = _records_of(project, trained)
    newest = max(RunDirectory(trained.folder).epochs(), default=0)
    if all(r.is_whole and r.result["epochs"] < newest for r in records):
        longer = replace(this.plan, epochs=newest).text()
        log.warning(
            "%s has been trained to epoch %d by another command; the next steps use its first %d "
            "epochs. To use all: %s",
            trained.folder,
            newest,
            trained.result["epochs"],
            project.command(this.option, longer),
        )


def _lost_file(folder: Uri, epoch: int, *, has_estimates: bool) -> Uri | None:
    """Return a file that later steps need of an epoch of a training, and that is gone or damaged.

    Weights and latents are compared with the manifest; None if nothing is lost.
    """
    run = RunDirectory(folder)
    weights, latents = run.weights(epoch), run.latents(epoch)
    needed = [run.config, run.manifest, run.particles, weights, latents]
    if has_estimates:
        needed.append(run.estimates(epoch))
    gone = next((uri for uri in needed if not storage.exists(uri)), None)
    if gone is not None:
        return gone
    recorded = Manifest.read(run.manifest).epochs.get(epoch, {})
    for name, uri in (("weights", weights), ("latents", latents)):
        if name in recorded and not recorded[name].matches(storage.read_bytes(uri)):
            return uri
    return None


def _follow_images(this: Round, folder: Uri) -> None:
    """Point a training to its particles where they are now, if the project or they have moved."""
    from raydrgn.run.reader import open_run
    from raydrgn.run.relocation import relocate

    before, now = open_run(folder).source, this.source_of_rows.absolute()
    if before is None or (before.particles, before.ind) == (now.particles, now.ind):
        return
    log.info("round %d: its particles are now in %s", this.number, now.particles)
    relocate(
        folder,
        datadir=now.datadir,
        particles=now.particles,
        passthrough=now.passthrough,
        ind=now.ind,
    )


def judge(folder: Uri, last: int) -> "list[Finding]":
    """Return the verdicts on losses and latents of a run, up to an epoch."""
    from raydrgn.convergence.verdict import judge_latents
    from raydrgn.run.reader import open_run

    run = open_run(folder)
    return judge_latents(run, [epoch for epoch in run.files.latent_epochs() if epoch <= last])


class _EpochProgress:
    """Progress of a training, which also tells of each epoch when its files are written."""

    def __init__(
        self, progress: Progress, folder: Uri, epochs: int, on_epoch: Callable[[int], None]
    ) -> None:
        self._progress, self._folder, self._epochs = progress, folder, epochs
        self._on_epoch = on_epoch
        self._last: int | None = None  # reported, or made before this training began or went on

    def __call__(
        self,
        what: str,
        done: float,
        total: float,
        *,
        unit: str = "",
        rate: float | None = None,
        extra: str = "",
    ) -> None:
        """Pass progress on; tell of the newest epoch if it is another than before."""
        self._progress(what, done, total, unit=unit, rate=rate, extra=extra)
        if what != "training":
            return
        reached = int(done * self._epochs / total)
        if self._last is None:
            self._last = reached
        if reached <= self._last:  # else folders would be listed at each step
            return
        newest = max(RunDirectory(self._folder).epochs(), default=0)
        if newest > self._last:
            self._last = newest
            self._on_epoch(newest)


def _log_open_criteria(this: Round, folder: Uri, epoch: int) -> None:
    """Log what has not converged at an epoch, once there are enough to judge."""
    from raydrgn.convergence.epochs import MIN_EPOCHS
    from raydrgn.convergence.verdict import open_criteria

    if epoch >= MIN_EPOCHS:
        log.info("round %d, epoch %d: %s", this.number, epoch, open_criteria(judge(folder, epoch)))


def _compare(
    folder: Uri, epochs: int, executor: Executor, progress: Progress
) -> "ConvergenceResult":
    """Judge losses, latents and volumes through the epochs of a run; write ``convergence.N``."""
    from raydrgn.workflows import convergence

    every = max(1, epochs // COMPARED)
    settings = convergence.ConvergenceSettings(run=folder, epoch=epochs, every=every)
    return convergence.run(settings, executor=executor, progress=progress)


def _train(this: Round, folder: Uri, epochs: int, executor: Executor, progress: Progress) -> None:
    """Train to an epoch, from the beginning or from where the run is."""
    from raydrgn.run.recipe import TrainConfig
    from raydrgn.run.status import find_run
    from raydrgn.workflows import train
    from raydrgn.workflows.train_settings import TrainSettings

    status = find_run(folder)
    if status is not None and status.epochs_done >= epochs:
        return
    if status is not None:
        _follow_images(this, folder)
    plan = this.plan
    network: dict[str, Any] = {}
    if plan.width is not None:
        network = {
            "enc_dim": plan.width,
            "dec_dim": plan.width,
            "enc_layers": plan.layers,
            "dec_layers": plan.layers,
        }
    source, beside = this.source_of_rows, {}
    if status is None:  # else the run has them, and its step is of no others
        beside = {field.name: getattr(source, field.name) for field in fields(ParticleSettings)}
    workers = executor.for_training(None if plan.method == "mfa" else TrainConfig().batch_size)
    settings = TrainSettings(
        out=folder,
        particles=source.particles if status is None else None,
        method=plan.method if status is None else None,
        epochs=max(epochs, status.config.train.epochs if status else 0),
        uninvert_data=this.uninvert_data,
        drop_bad=this.drop_bad,
        seed=this.seed,
        resume=status is not None,
        workers=workers.num_workers or None,
        cpus_per_worker=workers.cpus or None,
        gpus_per_worker=workers.gpus if workers.gpus >= 0 else None,
        **network,
        **beside,
    )
    if not train.run(settings, executor=executor, progress=progress).goes_on:
        raise KeyboardInterrupt  # a stop was asked for; a checkpoint or the last epoch is kept


def _records_of(project: Project, trained: Step) -> list[StepRecord]:
    """Return the records of a training that was planned for longer and longer, the first first."""
    folder = trained.folder.removeprefix(f"{project.root}/")
    return [record for record in project.records(trained.name) if record.folder == folder]


def _epoch_decision(this: Round) -> str:
    return f"epoch of round {this.number}"


def _chosen_epoch(project: Project, this: Round, folder: Uri) -> Decision | None:
    """Return the decision of a person which epoch of a training is taken; None if there is none."""
    found = project.decisions.by_user(_epoch_decision(this))
    if found is None or not isinstance(found.value, dict):
        return None
    return found if found.value.get("run") == storage.name(folder) else None


def _with_decided_epoch(project: Project, this: Round, trained: Step) -> Step:
    """Return a training with the epoch that ``project.yaml`` has for it.

    A person may have changed it there; what comes after is made again then.

    Raises:
        InputError: If the run has no such epoch.
    """
    name, found = _epoch_decision(this), trained.result
    chosen = _chosen_epoch(project, this, trained.folder)
    if chosen is None:
        run = storage.name(trained.folder)
        value = {"run": run, "epoch": found["epoch"], "of": found["epochs"]}
        project.decisions.make(name, value, by="program", why=found["why"])
        return replace(trained, key=_key_of(project, trained, found["epoch"]))
    epoch = chosen.value.get("epoch")
    epochs = RunDirectory(trained.folder).epochs()
    if epoch not in epochs:
        raise InputError(
            f"{project.decisions.uri}: the {name} is {epoch}, but {trained.folder} has weights of "
            f"{', '.join(map(str, epochs)) or 'none'} only. Correct it, or delete the decision."
        )
    kept = project.decisions.keep(name, chosen, program_why=found["why"])
    result = found
    if epoch != found["epoch"]:
        why = f"{found['why']} A person chose the epoch ({kept.why})."
        result = {**found, "epoch": epoch, "why": why}
    return replace(trained, key=_key_of(project, trained, epoch), result=result)


def _key_of(project: Project, trained: Step, epoch: int) -> str:
    """Return the key of an epoch of a training: it stays where the training has gone on since."""
    whole = [record for record in _records_of(project, trained) if record.is_whole]
    first = next((r for r in whole if r.result["epochs"] >= epoch), None)
    if first is None:  # trained for longer by another command
        key, taken = trained.key, trained.result["epoch"]
    else:
        key, taken = first.key, first.result["epoch"]
    if epoch == taken:
        return key
    return storage.checksum(f"{key} {epoch}".encode())[: len(key)]
