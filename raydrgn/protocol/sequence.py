"""``protocol``: all steps, one after the other, with one pause for a person in each round."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.storage import Uri
from raydrgn.protocol import ensemble, inputs, round_training, rounds
from raydrgn.protocol.completed_steps import CompletedSteps, Filtering
from raydrgn.protocol.decision_values import PIXEL_SIZE
from raydrgn.protocol.decisions import ALL, EDITED, IND, Decision, ProjectInputs, image_identity
from raydrgn.protocol.plans import REPORT, check_counts, check_drop_round, check_room, decide_plans
from raydrgn.protocol.project import Project, Step
from raydrgn.protocol.rounds import Round
from raydrgn.protocol.rounds_compared import compare_rounds
from raydrgn.protocol.settings import ProtocolSettings, TrainingPlan
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.run.claim import RunClaim

if TYPE_CHECKING:
    from raydrgn.io.particles import ParticleTable
    from raydrgn.protocol.estimate import ProjectEstimate

log = logging.getLogger(__name__)

NONE_FOUND = "no junk was found"


@dataclass(frozen=True, kw_only=True)
class ProtocolResult:
    """How far a project is."""

    project: Project
    estimate: "ProjectEstimate | None" = None
    proposal: Step | None = None
    """What waits for a person; None if nothing does."""

    report: Uri | None = None
    """The report of a whole project."""

    summary: str = ""
    """The answer in a few sentences, where it is whole."""


def run(
    settings: ProtocolSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> ProtocolResult:
    """Make the steps that the project lacks, up to the pause or the report.

    Raises:
        RaydrgnError: If the inputs, the settings or the folder do not allow it, or a step fails.
    """
    from raydrgn.training.assembly import keep_threads

    project = Project(settings.out)
    given = _inputs(settings, project)
    checksums = project.decisions.check(given, has_results=project.has_results)
    if checksums != project.decisions.checksums:
        inputs.check_map(given)
    table = _open(given.source)
    images = image_identity(table)
    project.decisions.check_images(images, has_results=project.has_results)
    image_box = table.single_box()
    plans = decide_plans(settings, project, image_box, keeps=False)
    check_drop_round(settings, plans)
    check_counts(plans, len(table))
    if settings.estimate:
        from raydrgn.protocol.estimate import estimate

        found = estimate(
            plans,
            num_particles=len(table),
            image_box=image_box,
            has_model=given.model is not None,
            has_workers=executor.workers not in (None, 1),
        )
        return ProtocolResult(project=project, estimate=found)
    check_room(project, plans, len(table), image_box)
    project.decisions.begin(given, images=images, has_results=project.has_results)
    with RunClaim(project.root) as claim:
        claim.take()
        project = Project(settings.out)  # another command may have made steps of it since
        project.remove_unfinished(REPORT)
        _decide_pixel_size(project, table)
        decide_plans(settings, project, image_box, keeps=True)
        keep_threads()
        with project.remedies():
            return _Sequence(project, settings, plans, image_box, executor, progress).run()


def _inputs(settings: ProtocolSettings, project: Project) -> ProjectInputs:
    """Return what the project is, or was, begun with."""
    known, source = project.decisions.inputs, settings.source
    if known is None and (source is None or settings.map is None):
        missing = "PARTICLES" if source is None else "--map, the map that their poses are of"
        raise ConfigError(f"{project.root} is not a project yet: give {missing}.")
    if known is None:
        assert source is not None
        assert settings.map is not None
        return ProjectInputs(
            source=source, map=settings.map, model=settings.model, by=settings.by
        ).absolute()
    return ProjectInputs(
        source=source or known.source,
        map=settings.map or known.map,
        model=settings.model or known.model,
        by=settings.by or known.by,
    ).absolute()


def _open(source: ParticleSource) -> "ParticleTable":
    from raydrgn.io.sources import open_particles, require_poses

    table = open_particles(source)
    require_poses(table)
    if source.ind and (source.poses or source.ctf):
        try:
            open_particles(replace(source, ind=None), need_images=False)
        except InputError as error:  # rows of the selection alone are no rows of a part of it
            raise InputError(
                f"{error} With --ind, a project needs poses and CTF of every particle of "
                f"{source.particles}."
            ) from error
    return table


def _decide_pixel_size(project: Project, table: "ParticleTable") -> None:
    from raydrgn.io.pixel_sizes import reference_pixel_size

    size = round(float(reference_pixel_size(table)), 6)
    why = "that of most particles, at the box of the images"
    project.decisions.make(PIXEL_SIZE, size, by="program", why=why)


class _Sequence:
    """The steps of one call."""

    def __init__(
        self,
        project: Project,
        settings: ProtocolSettings,
        plans: list[TrainingPlan],
        image_box: int,
        executor: Executor,
        progress: Progress,
    ) -> None:
        self._project = project
        self._settings = settings
        self._plans = plans
        self._image_box = image_box
        self._has_dropped = False
        self._drop_bad = False
        self._work: dict[str, Any] = {"executor": executor, "progress": progress}

    def run(self) -> ProtocolResult:
        """Make all steps, up to a pause or the end."""
        project, work = self._project, self._work
        check = self._check()
        last_box = self._plans[-1].box
        assert last_box is not None
        # before training, so that a model that does not fit is known now
        masks = ensemble.make_masks(project, last_box, image_box=self._image_box, **work)
        filtering: list[Filtering] = []
        for number in range(1, len(self._plans)):
            filtered = self._filter(number, check, filtering)
            if isinstance(filtered, Step):
                self._keep_particles(filtering)
                self._warn_of_drop(number)
                return ProtocolResult(project=project, proposal=filtered)
            filtering.append(filtered)
        self._keep_particles(filtering)
        return self._report(self._ensemble(check, filtering, masks))

    def _filter(self, number: int, check: Step, filtering: Sequence[Filtering]) -> Filtering | Step:
        """Train a round and drop what is chosen after it; return its proposal, if it waits."""
        project, work = self._project, self._work
        this, after = self._round(number, check, filtering)
        trained = round_training.train_round(project, this, after=after, **work)
        analyzed = rounds.analyze_round(project, this, trained, **work)
        proposal = rounds.propose_junk(project, this, trained, analyzed, **work)
        decision = self._selection(number, proposal)
        if decision is None:
            return proposal
        selected, selection = None, dict(decision.value)
        del selection["proposal"]
        if rounds.drops(selection):
            rounds.require_enough(project, this, trained, analyzed, selection)
        # Only now, but before it is made: the explorer takes no other answer from here on.
        project.decisions.make(f"selection {number}", **asdict(decision))
        if rounds.drops(selection):
            selected = rounds.select_particles(project, this, trained, analyzed, selection, **work)
        return Filtering(this, trained, analyzed, proposal, selected)

    def _ensemble(
        self, check: Step, filtering: Sequence[Filtering], masks: Step | None
    ) -> CompletedSteps:
        """Train the last round, and make all that comes of it."""
        project, work = self._project, self._work
        this, after = self._round(len(self._plans), check, filtering)
        trained = round_training.train_round(project, this, after=after, **work)
        analyzed = rounds.analyze_round(project, this, trained, **work)
        analyses = [*(found.analyzed for found in filtering), analyzed]
        comparison = compare_rounds(project, analyses, **work)
        path = ensemble.traverse(project, this, trained, analyzed, **work)
        landscape = ensemble.landscape(project, this, trained, **work)
        occupancies: list[Step] = []
        if masks and landscape.result["states"] > 1:  # else all occupancies are the same
            occupancies = [masks, *ensemble.occupancies(project, this, trained, masks, **work)]
        grouped = occupancies[-1] if occupancies else landscape
        classes = ensemble.class_maps(project, this, trained, grouped, **work)
        return CompletedSteps(
            check=check,
            filtering=filtering,
            last=(this, trained, analyzed),
            comparison=comparison,
            path=path,
            landscape=landscape,
            occupancies=occupancies,
            classes=classes,
        )

    def _report(self, made: CompletedSteps) -> ProtocolResult:
        """Write the report of the whole project."""
        from raydrgn.protocol.report import summary, write_project_report

        report = self._project.at(REPORT)
        write_project_report(self._project, made, report)
        return ProtocolResult(project=self._project, report=report, summary=summary(made))

    def _check(self) -> Step:
        """Check contrast and hand, and decide them."""
        settings, decisions = self._settings, self._project.decisions
        for name, given, of_user, usual in (
            ("contrast given", settings.uninvert_data, "dark", "bright"),
            ("hand given", settings.flip, "flipped", "as it is"),
        ):
            option = "--uninvert-data" if of_user == "dark" else "--flip"
            decisions.choose(name, of_user if given else None, usual, option=option, why="usual")
        self._drop_bad = decisions.choose(
            "drop bad images",
            settings.drop_bad or None,
            False,
            option="--drop-bad",
            why="images that cannot be used are refused",
        )
        check = inputs.check_inputs(
            self._project,
            uninvert_data=decisions["contrast given"] == "dark",
            flip=decisions["hand given"] == "flipped",
            drop_bad=self._drop_bad,
            **self._work,
        )
        found, why, before = check.result, check.result["why"], decisions.all()
        contrast = "dark" if found["uninvert_data"] else "bright"
        decisions.make("contrast", contrast, by="program", why=why["contrast"])
        hand = "flipped" if found["flip"] else "as it is"
        decisions.make("hand", hand, by="program", why=why["hand"])
        for name, is_given in (("contrast", settings.uninvert_data), ("hand", settings.flip)):
            taken = decisions[f"{name} given"]
            is_new = name not in before or before[name].value != decisions[name]
            if taken != decisions[name] and (is_given or is_new):
                log.warning(
                    "%s is “%s” from here on, not “%s”: %s",
                    name, decisions[name], taken, why[name],
                )  # fmt: skip
        return check

    def _round(
        self, number: int, check: Step, filtering: Sequence[Filtering]
    ) -> tuple[Round, list[Step]]:
        """Return a round, and the steps that it comes after."""
        plan = self._plans[number - 1]
        selected = next((f.selected for f in reversed(filtering) if f.selected), None)
        before = [check] if selected is None else [check, selected]
        assert plan.box is not None
        source, made = inputs.in_box(
            self._project,
            plan.box,
            image_box=self._image_box,
            drop_bad=self._drop_bad,
            **self._work,
        )
        found = check.result
        this = Round(
            number=number,
            plan=plan,
            option="--high" if number == len(self._plans) else "--low",
            source=source,
            rows=None if selected is None else selected.at(self._rows_of(source)),
            uninvert_data=found["uninvert_data"],
            flip=found["flip"],
            drop_bad=self._drop_bad,
            seed=self._project.decisions["seed"],
        )
        return this, [*before, *made]

    def _rows_of(self, source: ParticleSource) -> str:
        """Return which rows of a selection are those of a round's file."""
        given = self._project.decisions.inputs
        assert given is not None
        is_original = source.particles == given.source.particles
        return rounds.ROWS_OF_ORIGINAL if is_original else rounds.ROWS

    def _selection(self, number: int, proposal: Step) -> Decision | None:
        """Return what is dropped after a round: as proposed or as the user chose; None to wait."""
        self._project.decisions.read()  # the explorer may have answered meanwhile
        known = self._project.decisions.get(f"selection {number}")
        if known is not None and known.value.get("proposal") != proposal.key:
            known = None  # of another proposal
        clusters = self._clusters_for(number, None if known is None else known.value)
        if clusters is not None:
            _check_clusters(clusters, proposal, "--drop")
            value = {"proposal": proposal.key, "clusters": list(clusters), "null": None}
            return Decision(value=value, by="user", why="--drop was given")
        if known is not None:
            where = f"{self._project.decisions.uri}: “selection {number}”"
            _check_clusters(known.value["clusters"], proposal, where)
            if known.by == "user" and known.why.startswith(NONE_FOUND):
                known = replace(known, why=EDITED)
            log.info("round %d: as decided before (%s)", number, known.why)
            return known
        found = proposal.result
        value = {"proposal": proposal.key, **rounds.proposed_selection(found)}
        if not found["drop"]:
            why = NONE_FOUND
            if self._plans[number - 1].method == "mfa" and found["null"] is None:
                why += ", and the images have too little signal to look for it one by one"
            log.info("round %d: %s; all particles are kept", number, why)
            return Decision(value=value, by="program", why=why)
        if self._settings.accept:
            return Decision(value=value, by="user", why="as proposed; --accept was given")
        return None

    def _keep_particles(self, filtering: Sequence[Filtering]) -> None:
        """Keep in the project which particles are left, for other commands to take."""
        decisions, selected = self._project.decisions, [f for f in filtering if f.selected]
        if not selected:
            decisions.make("particles", ALL, by="program", why="none is dropped so far")
            return
        last = selected[-1]
        assert last.selected is not None
        found, number = last.selected.result, last.round.number
        decisions.make(
            "particles",
            storage.name(last.selected.folder),
            by=decisions.all()[f"selection {number}"].by,
            why=f"{found['kept']:,} of {found['particles']:,} are kept after round {number}",
        )

    def _clusters_for(self, number: int, known: Mapping[str, Any] | None) -> Sequence[int] | None:
        """Return the clusters of ``--drop`` if they are meant for a round, else None.

        They are meant for the round that is named; without a number for the one that waits, for
        the one that was decided so, where a command is repeated, or for the last one.
        """
        clusters, named = self._settings.clusters, self._settings.drop_round
        if clusters is None or self._has_dropped or named not in (None, number):
            return None
        is_repeated = known is not None and (known["clusters"], IND in known) == (
            list(clusters),
            False,
        )
        is_last = number == len(self._plans) - 1
        if named is None and not (known is None or is_repeated or is_last):
            return None
        self._has_dropped = True
        return clusters

    def _warn_of_drop(self, waiting: int) -> None:
        """Warn where ``--drop`` names a round that comes after the one that waits."""
        named = self._settings.drop_round
        if named is not None and named > waiting:
            log.warning(
                "--drop was not taken: it names round %d, but round %d waits for its answer. Give "
                "it again once round %d has been analysed.",
                named, waiting, named,
            )  # fmt: skip


def _check_clusters(clusters: Sequence[int], proposal: Step, where: str) -> None:
    """Refuse clusters that a round does not have.

    Raises:
        ConfigError: Naming where they were given.
    """
    count = len(proposal.result["table"]) - 1
    outside = [number for number in clusters if not 0 <= number < count]
    if outside:
        raise ConfigError(f"{where} contains {outside[0]}, but there are 0 to {count - 1}.")
