"""``sweep``: many trainings on the same particles, to find the settings that suit them."""

import logging
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.io.particle_source import ParticleSettings, ParticleSource
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds
from raydrgn.training.options import CpusPerTrainingProcess, GpusPerTrainingProcess

if TYPE_CHECKING:
    from raydrgn.run.claim import RunClaim
    from raydrgn.run.config import RunConfig
    from raydrgn.sweep.record import TrialRecord
    from raydrgn.sweep.schedule import Estimate
    from raydrgn.sweep.space import SearchSpace
    from raydrgn.sweep.sweep import Sweep
    from raydrgn.training.prepare_run import RunRequest

log = logging.getLogger(__name__)

SCHEDULERS, SCORES = ("asha", "none"), ("heldout", "halves", "truth")

HELD_OUT = 0.05


@dataclass(frozen=True, kw_only=True)
class SweepSettings(ParticleSettings):
    """Settings of ``sweep``."""

    particles: Annotated[
        str,
        Setting("Particles: .mrcs, .txt, .star, .cs or .parquet.", is_argument=True),
    ]

    out: Annotated[str, Setting("Folder of the sweep; a path or URL.", flags=("-o", "--out"))]

    search: Annotated[
        tuple[str, ...],
        Setting(
            "Setting to search, of the sections model and train of config.yaml: model.zdim=2,4,8 "
            "tries these values, train.learning_rate=log:1e-4..1e-2 a range; repeatable.",
            metavar="SECTION.FIELD=VALUES",
        ),
    ] = ()

    trials: Annotated[
        int | None,
        Setting(
            "Trainings (default: 32, or every combination of the values where there are 12 or "
            "fewer).",
            min=1,
        ),
    ] = None

    scheduler: Annotated[
        str,
        Setting(
            "asha: of the trials that reach a quarter of the epochs, and of those that reach three "
            "quarters, a third goes on; none: all are trained to the end."
        ),
    ] = "asha"

    score: Annotated[
        str | None,
        Setting(
            "heldout: prediction of coefficients of held-out images; halves: that, and for the "
            "best three the agreement of trainings on half of the particles; truth: per-image FSC. "
            "Default: truth with --truth, else heldout, which ranks settings as the truth does "
            "(docs/sweeps.md)."
        ),
    ] = None

    truth: Annotated[str | None, Setting("Folder truth/ of the simulation, for --score truth.")] = (
        None
    )

    epochs: Annotated[
        int | None,
        Setting(
            "Passes of each training over all particles (default: 40 for up to 20,000 of them, "
            "falling to 20 for 40,000 and more; 50 by --recipe protocol).",
            flags=("-n", "--epochs"),
            min=1,
        ),
    ] = None

    recipe: Annotated[str | None, Setting("As in train: fast (default), or protocol.")] = None

    uninvert_data: Annotated[
        bool,
        Setting(
            "Particles are dark on a bright background (default: bright on a dark one).",
            project="uninvert_data",
        ),
    ] = False

    drop_bad: Annotated[
        bool,
        Setting(
            "Leave out images that cannot be used, and outliers, as train does.", project="drop_bad"
        ),
    ] = False

    workers: Annotated[
        int, Setting("Training processes of each trial; trials run side by side.", min=1)
    ] = 1

    cpus_per_worker: CpusPerTrainingProcess = None

    gpus_per_worker: GpusPerTrainingProcess = None

    seed: Annotated[
        int, Setting("Seed of the proposals, and of each training.", min=0, project="seed")
    ] = 0

    set: Annotated[
        tuple[str, ...],
        Setting(
            "Setting of config.yaml that all trials share, such as train.batch_size=32; "
            "repeatable.",
            metavar="SECTION.FIELD=VALUE",
        ),
    ] = ()

    dry_run: Annotated[
        bool, Setting("Print how many trials there are and how long they take; train nothing.")
    ] = False

    def __post_init__(self) -> None:
        check_bounds(self)
        for option, value, known in (
            ("--scheduler", self.scheduler, SCHEDULERS),
            ("--score", self.score_or_default, SCORES),
        ):
            if value not in known:
                raise ConfigError(f"{option} is {value!r}; it must be one of {', '.join(known)}.")
        if (self.score_or_default == "truth") != bool(self.truth):
            raise ConfigError(
                "--score truth needs --truth, the folder truth/ of the simulation, and no other "
                "score takes it."
            )

    @property
    def score_or_default(self) -> str:
        """The score; if none is given, that of a known truth, else of held-out images."""
        return self.score or ("truth" if self.truth else "heldout")

    @property
    def source(self) -> ParticleSource:
        """The particles, with what goes with them."""
        return self.source_of(self.particles)

    def values(self) -> dict[str, Any]:
        """Return what all trials share, by the names of config.yaml.

        Raises:
            ConfigError: If an assignment cannot be read.
        """
        from raydrgn.run.config import parse_assignment

        given: dict[str, Any] = {
            "train.epochs": self.epochs,
            "data.invert": False if self.uninvert_data else None,
            "train.seed": self.seed,
            "train.held_out_fraction": 0.0 if self.score_or_default == "truth" else HELD_OUT,
            "resources.num_workers": self.workers,
            "resources.cpus": self.cpus_per_worker,
            "resources.gpus": self.gpus_per_worker,
        }
        values = {name: value for name, value in given.items() if value is not None}
        return values | dict(map(parse_assignment, self.set))

    def request(self, root: str, values: dict[str, Any]) -> "RunRequest":
        """Return the run that the trials are made from.

        Args:
            root: The folder of the sweep.
            values: What all trials share.
        """
        from raydrgn.io import storage
        from raydrgn.training.prepare_run import RunRequest

        return RunRequest(
            # A folder that does not exist is not made to ask how long a sweep would take.
            root=storage.parent(root) if self.dry_run else root,
            source=self.source,
            recipe=self.recipe,
            values=values,
            drop_bad=self.drop_bad,
        )

    def train_command(self, values: dict[str, Any], *, out: str, epochs: int) -> str:
        """Return the command that trains some settings on all particles, from any folder."""
        from raydrgn.sweep.ranking import assignments

        source = self.source.absolute()
        words = ["raydrgn", "train", source.particles, "-o", out, *source.words()]
        words = [shlex.join(words), f"--epochs {epochs}"]
        words += [f"--recipe {self.recipe}"] if self.recipe else []
        words += ["--uninvert-data"] if self.uninvert_data else []
        words += ["--drop-bad"] if self.drop_bad else []
        kept = [text for text in self.set if not text.startswith("train.held_out_fraction")]
        words += [f"--set {shlex.quote(text)}" for text in kept]
        return " ".join([*words, assignments(values)])


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep has found."""

    root: str
    trials: "list[TrialRecord]"
    finished: bool
    """False if it was interrupted, or only asked how long it takes."""

    estimate: "Estimate | None" = None
    """How long it takes, where that was asked."""

    summary: str = ""
    command: str = ""
    """Trains the best trial for longer."""

    report: str = ""


def run(
    settings: SweepSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> SweepResult:
    """Train all trials, or go on with those of the folder, and write table, report and command.

    Raises:
        RaydrgnError: If the particles, the settings, the folder or the cluster do not allow it;
            nothing is trained then. Or if every trial failed.
    """
    from raydrgn.evaluation.truth import volume_paths
    from raydrgn.io import storage
    from raydrgn.run.claim import RunClaim
    from raydrgn.sweep import sweep as stages

    if settings.truth:
        volume_paths(settings.truth)  # raises if there are none, before the particles are read
    with RunClaim(storage.absolute(settings.out)) as claim:
        sweep = _prepare(settings, executor, claim)
        if settings.dry_run:
            return _unfinished(sweep, stages.estimate_time(sweep, executor))
        if not stages.run_sweep(sweep, executor, progress):
            return _unfinished(sweep)
        return _finish(settings, sweep)


def _prepare(settings: SweepSettings, executor: Executor, claim: "RunClaim") -> "Sweep":
    """Read the space and the particles, and check them against the record and the cluster.

    The folder is claimed before images are read, unless nothing will be written.
    """
    from raydrgn.io import storage
    from raydrgn.model.device import gpu_problem
    from raydrgn.sweep import sweep as stages
    from raydrgn.sweep.record import SweepRecord
    from raydrgn.sweep.schedule import count_trials
    from raydrgn.training import prepare_run

    def check_room(config: "RunConfig", num_particles: int) -> None:
        executor.check_room(prepare_run.wanted(config, num_particles), gpu_problem)

    root, values = storage.absolute(settings.out), settings.values()
    space = _space(settings, values)
    count, is_grid = count_trials(space, settings.trials)
    record = SweepRecord(root)
    shared = _shared(settings, values)
    record.require_same(shared)
    base = prepare_run.begin(
        settings.request(root, values),
        claim=None if settings.dry_run else claim,
        before_reading=check_room,
    )
    shared["particles"] = stages.checksum(base)
    record.require_same(shared)  # as the command before has left it
    return stages.Sweep(
        root=root,
        base=base,
        shared=shared,
        space=space,
        count=count,
        is_grid=is_grid,
        halving=settings.scheduler == "asha",
        score=settings.score_or_default,
        truth=settings.truth and storage.absolute(settings.truth),
        default_rate=not _has_rate(settings, values, space),
        record=record,
        claim=claim.ticket,
    )


def _space(settings: SweepSettings, values: dict[str, Any]) -> "SearchSpace":
    """Read the settings to search, before the particles."""
    from raydrgn.data.config import ImageConfig
    from raydrgn.run.config import RunConfig
    from raydrgn.run.recipe import recipe_config
    from raydrgn.sweep.space import SearchSpace

    config = RunConfig(
        source=settings.source,
        data=ImageConfig(box=32),
        train=recipe_config(settings.recipe),
        pixel_size_angstrom=1.0,
    ).with_values(values)
    for name in ("load", "init"):
        if getattr(config.train, name):
            raise ConfigError(
                f"Trials start from random weights: train.{name} cannot be set in a sweep."
            )
    space = SearchSpace.parse(settings.search, config)
    for name in space.names:
        if name in values and name not in ("train.seed",):
            raise ConfigError(f"{name} is given by --set and by --search; leave one of them out.")
    return space


def _shared(settings: SweepSettings, values: dict[str, Any]) -> dict[str, Any]:
    """Return what makes two sweeps the same, apart from the number of trials and of workers."""
    source = {f"source.{k}": v for k, v in asdict(settings.source.absolute()).items()}
    kept = {k: v for k, v in values.items() if not k.startswith("resources.")}
    return {
        **source,
        **kept,
        "search": list(settings.search),
        "scheduler": settings.scheduler,
        "score": settings.score_or_default,
        "recipe": settings.recipe,
        "drop_bad": settings.drop_bad,
        "seed": settings.seed,
    }


def _has_rate(settings: SweepSettings, values: dict[str, Any], space: "SearchSpace") -> bool:
    """Return whether trials have a learning rate that does not follow from their network."""
    from raydrgn.run.recipe import recipe_config

    given = "train.learning_rate"
    return bool(
        values.get(given) or given in space.names or recipe_config(settings.recipe).learning_rate
    )


def _unfinished(sweep: "Sweep", estimate: "Estimate | None" = None) -> SweepResult:
    return SweepResult(
        root=sweep.root, trials=sweep.record.trials, finished=False, estimate=estimate
    )


def _finish(settings: SweepSettings, sweep: "Sweep") -> SweepResult:
    """Write the table, the report and the configuration of the best trial."""
    from raydrgn.io import storage
    from raydrgn.sweep import report
    from raydrgn.sweep.ranking import LONGER, longer_command, ranked
    from raydrgn.sweep.scores import TITLES

    root, space, trials = sweep.root, sweep.space, sweep.record.trials
    best = ranked(trials)[0]
    if best.state != "finished":
        raise RaydrgnError(
            f"None of the {len(trials)} trials could be trained to the end; {trials[0].name}: "
            f"{trials[0].failure or 'stopped early'}"
        )
    title = TITLES["truth" if settings.score_or_default == "truth" else "heldout"]
    fresh = settings.train_command(
        dict(best.values),
        out=storage.join(root, "best"),
        epochs=LONGER * sweep.base.config.train.epochs,
    )
    report.write_sweep(root, space, trials, title=title, fresh_command=fresh)
    return SweepResult(
        root=root,
        trials=trials,
        finished=True,
        summary=report.summary(space, trials, title=title),
        command=longer_command(root, best),
        report=storage.join(root, report.REPORT),
    )
