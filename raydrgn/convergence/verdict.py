"""Which criteria have converged, and what follows for the training."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raydrgn.convergence import criteria
from raydrgn.convergence.criteria import Finding, LatentShifts
from raydrgn.convergence.epochs import Convergence, latent_shifts, losses
from raydrgn.convergence.schedule import CRITERION as SCHEDULE
from raydrgn.convergence.schedule import unfinished_schedule
from raydrgn.io.storage import Uri
from raydrgn.run.reader import RunReader


def judge_latents(run: RunReader, epochs: Sequence[int]) -> list[Finding]:
    """Return the verdicts of the criteria that need no volumes."""
    last = epochs[-1]
    shifts = latent_shifts(run, epochs)
    return _judge_latents(run, last, losses(run, last), shifts)


def judge(run: RunReader, found: Convergence, *, options: str = "") -> Convergence:
    """Return the convergence with the verdict of every criterion, and overfitting warnings.

    Args:
        run: The run.
        found: Its losses, latents and volumes compared.
        options: What commands that decode volumes are given, as in `` --flip``.
    """
    findings = _judge_latents(run, found.epoch, found.losses, found.shifts)
    warnings: list[str] = []
    if found.has_volumes and not run.is_mixture:
        correlation, fsc = found.stacked("correlation").T, found.stacked("fsc")[..., -1].T
        for name, values, same in (
            ("correlation of volumes", correlation, criteria.SAME_CORRELATION),
            ("FSC of volumes at Nyquist", fsc, criteria.SAME_FSC),
        ):
            findings.append(criteria.converged_pairs(name, found.examined[1:], values, same=same))
        measures = np.median(found.stacked("overfitting"), axis=0)
        warnings = criteria.overfitting_warnings(found.examined, measures)
    commands = next_commands(
        run.root,
        found.epoch,
        findings,
        fitted_noise_from=found.before_overfitting if warnings else None,
        last_epoch=run.files.latent_epochs()[-1],
        can_train=not run.is_foreign,
        options=options,
    )
    return replace(found, findings=findings, warnings=warnings, commands=commands)


def _judge_latents(
    run: RunReader, epoch: int, of_epochs: Sequence[dict[str, float]], shifts: LatentShifts
) -> list[Finding]:
    findings = []
    schedule = unfinished_schedule(run, epoch)
    if schedule is not None:
        findings.append(schedule.finding())
    if of_epochs:
        at = [int(row["epoch"]) for row in of_epochs]
        total = np.array([row["total"] for row in of_epochs])
        if run.is_mixture:
            has_latents = run.has_latents(epoch)
            findings.append(criteria.converged_likelihood(at, total, has_latents=has_latents))
        else:
            findings.append(criteria.converged_loss(at, total))
    else:
        text = "the run has no record of its losses"
        findings.append(Finding("total loss", None, text, is_judged=False))
    if run.is_mixture:
        text = "not judged: components may turn into each other from epoch to epoch"
        return [*findings, Finding("latent shifts", None, text, is_judged=False)]
    if len(shifts.magnitude) and not shifts.magnitude.any():
        text = "not judged: the encoder is frozen, and latents are the same after every epoch"
        return [*findings, Finding("latent shifts", None, text, is_judged=False)]
    steps = shifts.epochs.tolist()
    findings += [
        criteria.converged_curve("magnitude of latent shifts", steps, shifts.magnitude),
        criteria.converged_curve("dot product of latent shifts", steps, shifts.dot),
    ]
    name = "cosine distance of latent shifts"
    if run.zdim == 1:
        text = "not defined in one dimension, where a step goes on or back"
        findings.append(Finding(name, None, text, is_judged=False))
    else:
        findings.append(criteria.converged_curve(name, steps, shifts.cosine_distance))
    return findings


def verdict(found: Convergence) -> str:
    """Return in one sentence whether training has converged."""
    epoch = found.epoch
    open_ = [finding for finding in found.findings if finding.is_open]
    if not open_:
        last = max(finding.converged_from or 0 for finding in found.findings if finding.is_judged)
        return f"Converged at epoch {epoch}: every criterion has converged, from epoch {last} on."
    if [finding.criterion for finding in open_] == [SCHEDULE]:
        return (
            f"Not converged at epoch {epoch}: the criteria have converged, but the learning-rate "
            "schedule has not ended."
        )
    if all(finding.is_early for finding in open_):
        return f"Not converged at epoch {epoch}: too few epochs to judge."
    return f"Not converged at epoch {epoch}."


def next_commands(
    root: Uri,
    epoch: int,
    findings: Sequence[Finding],
    *,
    fitted_noise_from: int | None = None,
    last_epoch: int = 0,
    can_train: bool = True,
    options: str = "",
) -> list[str]:
    """Return the commands that usually follow, filled in.

    A run that has not converged is trained to the end of its schedule, or half as long again after
    it; where it has later epochs, they are compared first. Where there is an overfitting warning,
    the epoch before the rise is analysed instead.

    Args:
        root: Run directory.
        epoch: The last epoch that was compared.
        findings: Of all criteria.
        fitted_noise_from: Last epoch before noise rises; None without an overfitting warning.
        last_epoch: The last one that the run has.
        can_train: Whether raydrgn trained the run.
        options: What commands that decode volumes are given, as in `` --flip``.
    """
    run = shlex.quote(root)
    if fitted_noise_from is not None:
        return [f"raydrgn analyze {run} {fitted_noise_from}{options}"]
    open_ = [finding.criterion for finding in findings if finding.is_open]
    if open_ and epoch < last_epoch:
        return [f"raydrgn convergence {run} {last_epoch}{options}"]
    if not open_ or not can_train:
        return [f"raydrgn {name} {run} {epoch}{options}" for name in ("analyze", "landscape")]
    if SCHEDULE in open_:
        return [f"raydrgn train -o {run} --resume"]
    return [f"raydrgn train -o {run} --resume --epochs {epoch + -(-epoch // 2)}"]


def open_criteria(findings: Sequence[Finding]) -> str:
    """Return in one phrase which criteria have not converged."""
    moving = [
        found.criterion for found in findings if found.is_open and found.criterion != SCHEDULE
    ]
    text = "still changing: " + ", ".join(moving) if moving else "losses and latents have converged"
    schedules = [found.text for found in findings if found.criterion == SCHEDULE]
    return "; ".join([text, *schedules])
