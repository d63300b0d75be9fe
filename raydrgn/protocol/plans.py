"""The trainings of a project, as they are decided, and whether the disk will hold them."""

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.mfa.config import MfaConfig
from raydrgn.protocol.project import Project
from raydrgn.protocol.settings import BOXES, HIGH, LOW, ProtocolSettings, TrainingPlan
from raydrgn.wording import counted

REPORT = "report.html"


def decide_plans(
    settings: ProtocolSettings, project: Project, image_box: int, *, keeps: bool
) -> list[TrainingPlan]:
    """Return all trainings, in their order.

    Args:
        settings: What is given now; else what was decided holds.
        project: The project.
        image_box: Edge of the images.
        keeps: Whether to write what is decided into ``project.yaml``.

    Raises:
        ConfigError: If a box is larger than that of the images, or the last the smaller one.
    """
    decide = project.decisions.choose if keeps else project.decisions.preview
    found = []
    boxes = settings.two_boxes
    for name, text, default, box, paper, reason in (
        ("low", settings.low, LOW, boxes[0], BOXES[0], "a mixture finds junk best"),
        ("high", settings.high, HIGH, boxes[1], BOXES[1], "the paper's network"),
    ):
        if box is not None and box > image_box:
            raise ConfigError(f"--boxes has a box of {box} px, but the images have {image_box} px.")
        usual = min(box or paper, image_box)
        given = None
        if text is not None or box is not None:
            known = project.decisions.by_user(name)
            before = TrainingPlan.read(known.value if known else default, f"--{name}")
            plan = before if text is None else TrainingPlan.read(text, f"--{name}")
            if box is None and plan.box is None and known:  # the one that was given before holds
                usual = before.box or usual
            given = plan.in_box(usual if text is None else plan.box or usual).text()
        words = "the paper's box" if usual == paper else "images have no larger box"
        option = f"--{name}" if text is not None else "--boxes"
        why = f"{words}; {reason}"
        read = TrainingPlan.read(default, f"--{name}").in_box(usual).text()
        chosen = decide(name, given, read, option=option, why=why)
        plan = TrainingPlan.read(chosen, f"--{name}")
        if plan.box is None or plan.box > image_box:
            raise ConfigError(
                f"--{name} has a box of {plan.box} px, but the images have {image_box} px."
            )
        found.append(plan)
    _check_order(*found)
    count = decide("rounds", settings.rounds, 1, option="--rounds", why="one filtering, as usual")
    decide("seed", settings.seed, 0, option="--seed", why="any number does")
    return [found[0]] * count + [found[1]]


def _check_order(low: TrainingPlan, high: TrainingPlan) -> None:
    """Refuse a last round of a smaller box than those that filter."""
    assert low.box is not None
    assert high.box is not None
    if low.box > high.box:
        raise ConfigError(
            f"--high has a box of {high.box} px, smaller than that of the rounds that filter, "
            f"{low.box} px (--low). Give --high a larger box, or --low a smaller one."
        )


def check_drop_round(settings: ProtocolSettings, plans: list[TrainingPlan]) -> None:
    """Refuse a ``--drop`` for a round after which no particles are filtered."""
    last = len(plans) - 1
    if settings.drop_round is not None and not 1 <= settings.drop_round <= last:
        raise ConfigError(
            f"--drop names round {settings.drop_round}, but particles are filtered after "
            f"{'round 1' if last == 1 else f'rounds 1 to {last}'} only."
        )


def check_counts(plans: list[TrainingPlan], num_particles: int) -> None:
    """Refuse a mixture of more components than there are particles for.

    Raises:
        InputError: With the option that trains an autoencoder instead.
    """
    from raydrgn.training.checks import MIN_PER_COMPONENT

    components = MfaConfig().components
    if num_particles >= components * MIN_PER_COMPONENT:
        return
    for plan, option in ((plans[0], "--low"), (plans[-1], "--high")):
        if plan.method == "mfa":
            raise InputError(
                f"{counted(num_particles, 'particle')} {'is' if num_particles == 1 else 'are'} too "
                f"few for a mixture of {components} components: each needs {MIN_PER_COMPONENT}. "
                f"Give {option} the network of an autoencoder, such as {option} 64x2."
            )


def check_room(
    project: Project, plans: list[TrainingPlan], num_particles: int, image_box: int
) -> None:
    """Refuse what the disk cannot hold, before the first round."""
    from raydrgn.protocol.estimate import needed_disk

    if storage.exists(project.at(REPORT)):
        return
    needed = needed_disk(plans, num_particles=num_particles, image_box=image_box)
    remedy = ", or smaller boxes with --boxes: this is for all rounds (see --estimate)"
    there = sum(storage.file_size(project.at(name)) for name in storage.list_files(project.root))
    storage.require_room(project.root, int(needed), remedy=remedy, released=there)
