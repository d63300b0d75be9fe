"""What the learning-rate schedule of a run still has to do after an epoch."""

from dataclasses import dataclass

from raydrgn.convergence.criteria import Finding
from raydrgn.run.config import RunConfig
from raydrgn.run.metrics import epoch_rows
from raydrgn.run.reader import RunReader

CRITERION = "learning-rate schedule"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnfinishedSchedule:
    """A falling learning rate that has not come to its end."""

    epoch: int
    first: int
    """Epochs done when the schedule began: 0, or those before a warm restart."""

    last: int
    """Epoch at the end of which the rate is zero."""

    peak_rate: float
    rate: float | None
    """At the end of the epoch; None if the run has no record of it."""

    @property
    def share_to_come(self) -> float:
        """Share of the schedule's epochs that are not done."""
        return (self.last - self.epoch) / (self.last - self.first)

    def finding(self) -> Finding:
        """Return the schedule as a criterion that has not converged."""
        now = ""
        if self.rate is not None:
            share = 100 * self.rate / self.peak_rate
            now = f"the learning rate is {self.rate:.2g}, {share:.0f} % of its highest value; "
        to_come = f"epoch {self.last}"
        if self.epoch + 1 < self.last:
            to_come = f"epochs {self.epoch + 1} to {self.last}"
        return Finding(
            CRITERION,
            None,
            f"{now}{100 * self.share_to_come:.0f} % of the schedule is still to come ({to_come}), "
            "and the loss usually falls most at its end",
        )


def unfinished_schedule(run: RunReader, epoch: int) -> UnfinishedSchedule | None:
    """Return what the schedule of a run still has to do after an epoch.

    None if the rate is constant, as cryoDRGN's, or has come to its end.
    """
    if run.is_foreign:
        return None
    config = RunConfig.read(run.files.config)
    train = config.train
    if config.mfa is not None:
        return None
    if train.schedule == "constant":
        return None
    restart = getattr(train, "restarted_after", 0)
    first, last = (restart, train.epochs) if epoch > restart else (0, restart)
    if epoch >= last:
        return None
    rates = [row.get("learning_rate") for row in epoch_rows(run.files.metrics)
             if row.get("epoch") == epoch]  # fmt: skip
    return UnfinishedSchedule(
        epoch=epoch,
        first=first,
        last=last,
        peak_rate=train.peak_rate(config.model.decoder_width),
        rate=rates[-1] if rates else None,
    )
