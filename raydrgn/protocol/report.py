"""The report of a project: its classes, and the steps in the order of the paper's figures."""

import resource
from collections.abc import Sequence
from dataclasses import replace

from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.protocol.class_folder import FIGURE
from raydrgn.protocol.completed_steps import CompletedSteps
from raydrgn.protocol.decision_values import OF_ROUND, PLANS
from raydrgn.protocol.decisions import IND
from raydrgn.protocol.ensemble import NO_DIFFERENCE
from raydrgn.protocol.project import Project, Step
from raydrgn.protocol.round_training import RULE as TRAINING_RULE
from raydrgn.protocol.rounds import Round, drops
from raydrgn.protocol.settings import TrainingPlan
from raydrgn.protocol.support import RULE
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.wording import in_bytes, in_time

Shown = list[tuple[bytes, str]]

CONVERGENCE = (
    ("00_total_loss.png", "Total loss."),
    ("01_encoder_umaps.png", "Density of the latents through training."),
    ("02_encoder_latent_vector_shifts.png", "Steps of particles in latent space."),
    ("05_decoder_CC.png", "Correlation of volumes with those of the epoch examined before."),
    ("08_volumes.png", "Volumes through training."),
)
ANALYSIS = (
    ("kmeans{k}/umap.png", "UMAP and k-means clusters."),
    ("kmeans{k}/z_pca.png", "Principal components and k-means clusters."),
    ("kmeans{k}/slices.png", "Volumes of the clusters."),
)

PROPOSAL = (
    (
        "volumes.png",
        "Volumes of the clusters on one grey scale; red: most of their particles are proposed.",
    ),
    ("methods.png", "What each method would drop."),
    ("images.png", "Particles that were proposed to be dropped, and kept ones."),
)
SELECTION = (("mean_volumes.png", "Mean volumes of kept and dropped particles."),)
SHARES = (
    "Share of the particles of each cluster of round {} (row) that is in each cluster of round {}."
)
CLASSES = "Decoded volumes above maps of their particles; a question mark: not supported."
ENSEMBLE = (
    "Path between the two cluster centres farthest apart, states and components in the space of "
    "volumes, and, with a model, occupancies of its subunits."
)
LANDSCAPE = (
    ("states/slices.png", "States in the space of volumes."),
    ("states_in_latent_space.png", "States in the latent space."),
    ("free_energy_1_2.png", "Density of the particles along the first two components."),
)
OCCUPANCIES = (
    ("subunits/subunits.png", "Masks of the subunits on the map."),
    ("heatmap.png", "Occupancies: volumes and subunits, with classes and blocks."),
    ("model.png", "The model, coloured by block."),
    ("centroids/slices.png", "Volume at the centre of each class."),
)

OPTIONS = {
    "low": '--low "{box} 256x3 epochs=50"',
    "high": '--high "{box} 1024x3 epochs=50"',
    "rounds": "--rounds {next}",
    "seed": "--seed {next}",
    "drop bad images": "--drop-bad",
    "contrast given": "--uninvert-data",
    "hand given": "--flip",
}
"""What changes a decision, by its name; with the box, or the number after the one, decided."""

SET = {
    ("contrast given", "dark"): "bright",
    ("hand given", "flipped"): "as it is",
    ("drop bad images", "True"): "false",
}
"""Decisions that an option has made, which has no opposite, and what they are without it."""


def write_project_report(project: Project, made: CompletedSteps, uri: Uri) -> None:
    """Write the report of a whole project."""
    root, sections = project.root, [_classes(project, made), _inputs(made.check)]
    for this, trained, _, proposal, selected in made.filtering:
        sections.append(_training(project, this, trained))
        sections.append(_filtering(root, this, proposal, selected))
    this, trained, analyzed = made.last
    sections += [
        _training(project, this, trained),
        _latent_space(root, this, analyzed),
        _comparison(root, made.comparison, rounds=this.number),
        _ensemble(root, made),
        _decisions(project, rounds=this.number),
        _resources(project),
    ]
    write_report(uri, title=f"{root}", summary=summary(made), sections=sections)


def summary(made: CompletedSteps) -> str:
    """Return the answer in a few sentences."""
    classes = made.classes.result["classes"]
    supported = sum(found["is_supported"] for found in classes)
    kept, inside = made.last[1].result["particles"], sum(found["particles"] for found in classes)
    how_many = f"{kept:,}" if inside == kept else f"{inside:,} of {kept:,}"
    dropped = [
        f"{step.result['particles'] - step.result['kept']:,} of {step.result['particles']:,} "
        f"particles were dropped after round {this.number}"
        for this, _, _, _, step in made.filtering
        if step is not None
    ]
    found = [
        *(step.result["misplaced"] for step in made.occupancies if "misplaced" in step.result),
        f"{'; '.join(dropped) or 'No particle was dropped'}. {how_many} particles fall into "
        f"{f'{len(classes)} classes' if len(classes) > 1 else '1 class'}, of which {supported} "
        f"{'is' if supported == 1 else 'are'} supported by their own particles.",
    ]
    if inside < kept:
        found.append(
            f"{kept - inside:,} {'is' if kept - inside == 1 else 'are'} in no class: images that "
            "show no particle, or have no latent."
        )
    if made.landscape.result["states"] == 1:
        found.insert(0, NO_DIFFERENCE)
    return " ".join(found)


def _inputs(check: Step) -> Section:
    where = check.result["maps"]
    return Section(
        title="Inputs",
        text=" ".join(check.result["findings"]),
        figures=_listed(check.at(where), [("backproject.png", "Particles beside the map.")]),
    )


def _training(project: Project, this: Round, trained: Step) -> Section:
    found = trained.result
    longer = replace(this.plan, epochs=2 * found["epochs"])
    folder = trained.at(f"convergence.{found['epochs']}")
    return Section(
        title=f"Round {this.number}: training",
        text=f"{this.plan.in_words()}; {found['particles']:,} particles. {found['why']} Epoch "
        f"{found['epoch']} of {found['epochs']} is taken." + _details(project.root, folder),
        figures=_listed(storage.join(folder, "plots"), CONVERGENCE),
        commands=f'{project.command()} {this.option} "{longer.text()}"    # trains for longer',
    )


def _filtering(root: Uri, this: Round, proposal: Step, selected: Step | None) -> Section:
    head, *rows = proposal.result["table"]
    kept, shown = "All particles were kept.", _listed(proposal.folder, PROPOSAL)
    detailed = [proposal.folder]
    if selected is not None:
        counts = selected.result
        kept = f"{counts['kept']:,} of {counts['particles']:,} particles were kept."
        shown += _listed(selected.folder, SELECTION)
        detailed.append(selected.folder)
    return Section(
        title=f"Round {this.number}: filtering",
        text=f"{proposal.result['summary']} {kept}{_details(root, *detailed)}",
        figures=shown,
        tables=[ReportTable(head=head, rows=rows)],
    )


def _details(root: Uri, *folders: Uri) -> str:
    """Return where reports of folders are, by paths from the project, which become links."""
    uris = [storage.join(folder, "report.html") for folder in folders]
    pages = [_from_project(root, uri) for uri in uris if storage.exists(uri)]
    return f" Details: {', '.join(pages)}." if pages else ""


def _from_project(root: Uri, uri: Uri) -> str:
    return uri.removeprefix(f"{root}/")


def _latent_space(root: Uri, this: Round, analyzed: Step) -> Section:
    ksample = analyzed.result["ksample"]
    listed = [(name.format(k=ksample), caption) for name, caption in ANALYSIS]
    return Section(
        title=f"Round {this.number}: latent space",
        text="Clusters of k-means divide the latent space; they are not states."
        + _details(root, analyzed.folder),
        figures=_listed(analyzed.folder, listed),
    )


def _comparison(root: Uri, comparison: Step, rounds: int) -> Section:
    """Return how the clusters of the rounds agree, with a heat map of each and the next."""
    shown = [
        (f"{number}-{number + 1}/shares.png", SHARES.format(number, number + 1))
        for number in range(1, rounds)
    ]
    return Section(
        title="Rounds compared",
        text=f"Clusters of the rounds. {' '.join(comparison.result['sentences'])}"
        + _details(root, comparison.folder),
        figures=_listed(comparison.folder, shown),
    )


def _ensemble(root: Uri, made: CompletedSteps) -> Section:
    path, kind = made.path, made.path.result["path"]
    first, second = path.result["centres"]
    ends = f"Path from cluster {first} to cluster {second}."
    movie = _from_project(root, path.at(kind, "movie.gif"))
    along = (
        ("path.png", ends),
        ("slices.png", "Volumes along it."),
        ("surfaces.png", f"Their isosurfaces, all at one level; {movie} shows them in motion."),
    )
    has_states = made.landscape.result["states"] > 1
    detailed = [made.landscape.folder] if has_states else []
    if made.occupancies:
        detailed.append(made.occupancies[-1].folder)
    shown = _listed(path.at(kind), along)
    shown += _listed(made.landscape.folder, LANDSCAPE)
    for step in made.occupancies:
        shown += _listed(step.folder, OCCUPANCIES)
    return Section(
        title="Ensemble",
        text=(ENSEMBLE if has_states else NO_DIFFERENCE) + _details(root, *detailed),
        figures=shown,
    )


def _classes(project: Project, made: CompletedSteps) -> Section:
    root, suffix = project.root, made.classes.result["suffix"]
    rows = [
        (
            *(found["name"], f"{found['particles']:,}", f"{100 * found['share']:.1f} %"),
            *(_angstrom(found[name]) for name in ("half_maps_angstrom", "agreement_angstrom")),
            *(_number(found[name]) for name in ("difference_half_maps", "difference_explained")),
            "yes" if found["is_supported"] else f"no: {found['why_not']}",
            _from_project(root, made.classes.at(found["name"], f"particles{suffix}")),
        )
        for found in made.classes.result["classes"]
    ]
    head = (
        *("class", "particles", "share", "half maps, Å", "with decoded, Å"),
        *("difference, half maps", "difference, decoded", "supported", "file"),
    )
    return Section(
        title="Classes",
        text="Particles of each class, back-projected at full box, beside its decoded volume. "
        "Half maps: FSC 0.143; with the decoded volume: FSC 0.5. Difference from all particles: "
        "its correlation between half maps, and the share of what they reproduce that the decoded "
        f"volume explains. {RULE}",
        figures=_listed(made.classes.folder, [(FIGURE, CLASSES)]),
        tables=[ReportTable(head=head, rows=rows)],
        commands=f"{project.explore_command}    # in a browser",
    )


def _decisions(project: Project, *, rounds: int) -> Section:
    """Return what was decided; what was decided of later rounds than there are is left out."""
    rows = []
    for name, found in project.decisions.all().items():
        of_round = OF_ROUND.fullmatch(name)
        number = int(of_round[2]) if of_round else 0
        is_selection = name.startswith("selection")
        if number > (rounds - 1 if is_selection else rounds):
            continue
        option = OPTIONS.get(name, "")
        if is_selection:
            option = f"--drop {number}:{'none' if drops(found.value) else '3,11'}"
        elif name in PLANS:
            option = option.format(box=TrainingPlan.read(found.value, f"--{name}").box)
        elif isinstance(found.value, int):
            option = option.format(next=found.value + 1)
        command = project.command() + f" {option}" if option else ""
        if name.startswith("epoch"):
            command = f"the epoch, and `by: user`, in {project.decisions.uri}"
        if without := SET.get((name, str(found.value))):
            command = f"`value: {without}`, and `by: user`, in {project.decisions.uri}"
        rows.append((name, _value(found.value), found.by, found.why, command))
    head = ("decision", "value", "by", "why", "to change it")
    table = ReportTable(head=head, rows=rows)
    return Section(title="Decisions", text=TRAINING_RULE, tables=[table])


def _value(value: object) -> str:
    if isinstance(value, dict) and "epoch" in value:
        return f"{value['epoch']} of {value.get('of', '?')}"
    if isinstance(value, dict) and IND in value:
        return f"kept: {value[IND]}"
    if isinstance(value, dict):
        parts = [f"clusters {', '.join(map(str, value['clusters'])) or 'none'}"]
        if value.get("null") is not None:
            parts.append(f"null probability above {value['null']:g}")
        return f"dropped: {'; '.join(parts)}"
    return str(value)


def _resources(project: Project) -> Section:
    rows = [
        (
            *(step.name, in_time(project.seconds(step)), in_bytes(_size(step))),
            _results(project.root, step),
        )
        for step in project.made
    ]
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Section(
        title="Time, memory and disk",
        text=f"The last command used up to {in_bytes(peak)} of memory, without its workers'.",
        tables=[ReportTable(head=("step", "time", "disk", "results"), rows=rows)],
    )


def _results(root: Uri, step: Step) -> str:
    """Return the report of a step, or its folder if it has none, by the path from the project."""
    page = step.at("report.html")
    return _from_project(root, page if storage.exists(page) else step.folder)


def _size(step: Step) -> float:
    names = storage.list_files(step.folder)
    return sum(storage.file_size(step.at(name)) for name in names)


def _angstrom(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _listed(folder: Uri, listed: Sequence[tuple[str, str]]) -> Shown:
    """Return the figures of a folder that were made, with their captions."""
    found = [(storage.join(folder, name), caption) for name, caption in listed]
    return [(storage.read_bytes(uri), caption) for uri, caption in found if storage.exists(uri)]
