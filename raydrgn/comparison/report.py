"""Tables, heat maps and report of compared labelings."""

from collections.abc import Sequence
from shlex import quote

import numpy as np
from matplotlib.figure import Figure

from raydrgn.comparison.agreement import Agreement
from raydrgn.comparison.labelings import Labeling, largest_file
from raydrgn.io import cryodrgn
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.storage import Uri
from raydrgn.reporting.report import ReportTable, Section, as_in_report, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.next_commands import selection_commands
from raydrgn.run.reader import open_run

MOST_NUMBERED = 30
"""Labels of either side up to which cells of a heat map have their numbers, and reports a table."""

RULE = (
    "A particle has moved if it is not in the label of the second to which most particles of its "
    "label in the first belong; of two selections, if one keeps it and the other drops it. The "
    "adjusted Rand index is 1 for the same partition and 0 for one by chance; it counts particles "
    "that both have. A particle agrees if its two labels are of one group; groups are united as "
    "long as that raises the share of these particles more than by chance."
)

GROUP_HEAD = ("labels of the first", "of the second", "agree", "of the first's", "of the second's")


def write_comparison(
    labelings: Sequence[Labeling], pairs: Sequence[Agreement], folder: ResultFolder
) -> None:
    """Write the labels of every particle, what they are, a folder for each pair, and the report.

    Args:
        labelings: All labelings, in order.
        pairs: Agreement of each two of them.
        folder: Where the results go.
    """
    _write_particles(labelings, folder)
    head: tuple[str, ...] = ("column", "labeling", "kind", "labels", "particles")
    folder.write_table("labelings.csv", head, _described(labelings))
    head = ("first", "second", "particles", "adjusted_rand", "stayed_together", "came_together",
            "moved", "groups", "agreed", "agreed_by_chance")  # fmt: skip
    folder.write_table("agreement.csv", head, list(map(_numbers, pairs)))
    sections, summary = [], f"{describe(pairs[0])} {RULE}"
    if len(pairs) > 1:
        matrix = rand_matrix(labelings, pairs, folder.uri)
        folder.write_figure("rand.png", matrix)
        sections.append(_overview(pairs, matrix))
        summary = _range_of(pairs)
    for pair in pairs:
        name = pair_folder(labelings, pair)
        _write_counts(pair, name, folder)
        cryodrgn.write_indices(folder.at(name, "moved.ind.pkl"), pair.numbers[pair.moved])
        cryodrgn.write_indices(folder.at(name, "agreed.ind.pkl"), pair.numbers[pair.agreed])
        figure = heat_map(pair, folder.uri)
        folder.write_figure(f"{name}/shares.png", figure)
        sections.append(_section(pair, name, figure))
    sections.append(_next_commands(labelings, pairs, folder))
    sections.append(_columns(labelings))
    write_report(
        folder.at("report.html"),
        title="Labels of " + ", ".join(labeling.name for labeling in labelings),
        summary=summary,
        sections=[
            section for section in sections if section.figures or section.tables or section.commands
        ],
    )


def pair_folder(labelings: Sequence[Labeling], pair: Agreement) -> str:
    """Return the folder of a pair, by its places among all labelings: ``1-2``."""
    names = [labeling.name for labeling in labelings]
    return f"{names.index(pair.first.name) + 1}-{names.index(pair.second.name) + 1}"


def describe(pair: Agreement) -> str:
    """Return in a sentence how two labelings agree."""
    only = [
        f"{count:,} are in {labeling.name} only"
        for labeling, count in (
            (pair.first, int(pair.only_first.sum())),
            (pair.second, int(pair.only_second.sum())),
        )
        if count
    ]
    return (
        f"{pair.first.name} ({pair.first.kind}) and {pair.second.name} ({pair.second.kind}): "
        f"adjusted Rand index {pair.adjusted_rand:.3f} over {len(pair.numbers):,} particles that "
        f"both have{''.join(f'; {text}' for text in only)}. {int(pair.moved.sum()):,} "
        f"({100 * pair.moved.mean():.1f} %) have moved. {_agreement(pair)}"
    )


def rand_matrix(labelings: Sequence[Labeling], pairs: Sequence[Agreement], folder: Uri) -> Figure:
    """Draw the adjusted Rand index of each two of several labelings, for the report of a folder."""
    names = [labeling.name for labeling in labelings]
    values = np.eye(len(names))
    for pair in pairs:
        first, second = names.index(pair.first.name), names.index(pair.second.name)
        values[first, second] = values[second, first] = pair.adjusted_rand
    size = max(3.2, 0.5 * len(names) + 2.2)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(values, cmap="Blues", vmin=0, vmax=1)
    shown = [
        f"{number}: {_short(as_in_report(folder, name), 20)}"
        for number, name in enumerate(names, start=1)
    ]
    axis.set_yticks(range(len(names)), shown, fontsize=8)
    axis.set_xticks(range(len(names)), [str(n + 1) for n in range(len(names))], fontsize=8)
    for (y, x), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 else "black"
        axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axis, label="adjusted Rand index", shrink=0.8)
    return figure


def _range_of(pairs: Sequence[Agreement]) -> str:
    """Return in a sentence which of several labelings agree most and least."""
    ordered = sorted(pairs, key=lambda pair: pair.adjusted_rand)
    most, least = (
        f"{pair.first.name} and {pair.second.name} (adjusted Rand index {pair.adjusted_rand:.3f})"
        for pair in (ordered[-1], ordered[0])
    )
    return f"Of {len(pairs)} pairs {most} agree most, {least} least."


def _overview(pairs: Sequence[Agreement], matrix: Figure) -> Section:
    rows = [
        (
            *(pair.first.name, pair.second.name, f"{len(pair.numbers):,}"),
            *(f"{pair.adjusted_rand:.3f}", f"{100 * pair.moved.mean():.1f} %"),
        )
        for pair in pairs
    ]
    head = ("first", "second", "particles", "adjusted Rand index", "moved")
    return Section(
        title="All pairs",
        text=RULE,
        figures=[(matrix, "Adjusted Rand index of each two.")],
        tables=[ReportTable(head=head, rows=rows)],
    )


def _agreement(pair: Agreement) -> str:
    groups = pair.groups.labels()
    if len(groups) < 2:
        return "No groups of their labels correspond."
    share, by_chance = pair.groups.agreement(pair.counts)
    return (
        f"{len(groups)} groups of their labels correspond: in these {100 * share:.1f} % of the "
        f"particles agree, where {100 * by_chance:.1f} % would by chance."
    )


def _numbers(pair: Agreement) -> tuple[object, ...]:
    return (
        *(pair.first.name, pair.second.name, len(pair.numbers), pair.adjusted_rand),
        *(pair.stayed_together, pair.came_together, int(pair.moved.sum())),
        *(len(pair.groups.labels()), *pair.groups.agreement(pair.counts)),
    )


def column_name(number: int) -> str:
    """Return the column of a labeling in ``particles.parquet``, by its place from 1."""
    return f"labels{number}"


def _described(labelings: Sequence[Labeling]) -> list[tuple[str, ...]]:
    return [
        (column_name(number), found.name, found.kind, f"{len(found.names)}", f"{len(found.codes)}")
        for number, found in enumerate(labelings, start=1)
    ]


def _columns(labelings: Sequence[Labeling]) -> Section:
    head = ("column of particles.parquet", "labeling", "kind", "labels", "particles")
    rows = [(*words, f"{int(count):,}") for *words, count in _described(labelings)]
    table = ReportTable(head=head, rows=rows)
    return Section(title="Labelings", tables=[table])


def _write_particles(labelings: Sequence[Labeling], folder: ResultFolder) -> None:
    """Write the labels of each particle that any labeling has; null where it lacks it."""
    numbers = np.unique(np.concatenate([labeling.known_numbers for labeling in labelings]))
    columns: dict[str, object] = {"original": numbers}
    for number, labeling in enumerate(labelings, start=1):
        names = np.full(len(numbers), None, dtype=object)
        place = np.searchsorted(numbers, labeling.known_numbers)
        names[place] = np.array(labeling.names, dtype=object)[labeling.codes]
        columns[column_name(number)] = names.tolist()
    folder.write_parquet("particles.parquet", columns)


def _write_counts(pair: Agreement, name: str, folder: ResultFolder) -> None:
    head = ("label", *pair.second.names, "not_in_second")
    rows: list[tuple[object, ...]] = [
        (label, *counts.tolist(), int(only))
        for label, counts, only in zip(pair.first.names, pair.counts, pair.only_first, strict=True)
    ]
    rows.append(("not_in_first", *pair.only_second.tolist(), 0))
    folder.write_table(f"{name}/counts.csv", head, rows)
    shares = [
        (label, *row.tolist()) for label, row in zip(pair.first.names, pair.shares(), strict=True)
    ]
    folder.write_table(f"{name}/shares.csv", head[:-1], shares)
    members = [
        (number, which, labeling.names[label], int(sizes[label]))
        for number, group in enumerate(pair.groups.labels())
        for which, labeling, labels, sizes in (
            ("first", pair.first, group[0], pair.counts.sum(axis=1)),
            ("second", pair.second, group[1], pair.counts.sum(axis=0)),
        )
        for label in labels
    ]
    folder.write_table(f"{name}/groups.csv", ("group", "labeling", "label", "particles"), members)


def heat_map(pair: Agreement, folder: Uri) -> Figure:
    """Draw the share of each row's particles in each column, large shares near the diagonal.

    Its labelings are named as in the report of a folder.
    """
    order = pair.column_order()
    shares = 100 * pair.shares()[:, order]
    rows, columns = shares.shape
    size = 0.36 if max(rows, columns) <= MOST_NUMBERED else 0.12
    figure = Figure(
        figsize=(max(4.2, size * columns + 2.6), max(2.8, size * rows + 1.4)), layout="constrained"
    )
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for k, names, set_ticks in (
        (rows, pair.first.names, axis.set_yticks),
        (columns, [pair.second.names[c] for c in order], axis.set_xticks),
    ):
        step = 1 if k <= MOST_NUMBERED else 10
        set_ticks(range(0, k, step), [_short(name, 14) for name in names[::step]], fontsize=8)
    if columns > 8 or max(map(len, pair.second.names)) > 3:
        axis.tick_params(axis="x", rotation=90)
    axis.set_ylabel(_short(as_in_report(folder, pair.first.name), 40))
    axis.set_xlabel(_short(as_in_report(folder, pair.second.name), 40))
    if max(rows, columns) <= MOST_NUMBERED:
        for y, x in zip(*np.nonzero(shares >= 0.5), strict=True):
            colour = "white" if shares[y, x] > 60 else "black"
            axis.text(x, y, f"{shares[y, x]:.0f}", ha="center", va="center", fontsize=7,
                      color=colour)  # fmt: skip
    figure.colorbar(image, ax=axis, label="% of the row's particles", shrink=0.8)
    return figure


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _section(pair: Agreement, name: str, figure: Figure) -> Section:
    tables = []
    if len(pair.second.names) <= MOST_NUMBERED:
        order = pair.column_order()
        names = [pair.second.names[column] for column in order]
        head = (pair.first.name, *names, "particles", "not in the second")
        rows = [
            (label, *(f"{n:,}" for n in counts), f"{counts.sum():,}", f"{only:,}")
            for label, counts, only in zip(
                pair.first.names, pair.counts[:, order], pair.only_first, strict=True
            )
        ]
        total = (*pair.counts.sum(axis=0)[order], pair.counts.sum(), pair.only_first.sum())
        rows.append(("all", *(f"{n:,}" for n in total)))
        rows.append(("not in the first", *(f"{n:,}" for n in pair.only_second[order]), "", ""))
        groups = ReportTable(head=GROUP_HEAD, rows=_group_cells(pair))
        tables = [groups, ReportTable(head=head, rows=rows)]
    caption = (
        f"Share of the particles of each label of {pair.first.name} (rows) in each of "
        f"{pair.second.name} (columns, ordered so that large shares are near the diagonal)."
    )
    text = (
        f"{describe(pair)} {100 * pair.stayed_together:.1f} % of the particles stay with most of "
        f"their label, and {100 * pair.came_together:.1f} % the other way round. Files: "
        f"{name}/counts.csv, shares.csv, groups.csv, moved.ind.pkl, agreed.ind.pkl."
    )
    return Section(
        title=f"{pair.first.name} and {pair.second.name}",
        text=text,
        figures=[(figure, caption)],
        tables=tables,
    )


def _group_cells(pair: Agreement) -> list[tuple[str, ...]]:
    """Return the labels of each group, how many particles agree, and their shares of either."""
    cells = []
    for rows, columns in pair.groups.labels():
        both = int(pair.counts[np.ix_(rows, columns)].sum())
        shares = both / pair.counts[rows].sum(), both / pair.counts[:, columns].sum()
        cells.append(
            (
                ", ".join(pair.first.names[row] for row in rows),
                ", ".join(pair.second.names[column] for column in columns),
                f"{both:,}",
                *(f"{100 * share:.0f} %" for share in shares),
            )
        )
    return cells


def _next_commands(
    labelings: Sequence[Labeling], pairs: Sequence[Agreement], folder: ResultFolder
) -> Section:
    run = next((labeling.run for labeling in labelings if labeling.run), None)
    file = largest_file(labelings)
    moved = next((pair for pair in pairs if pair.moved.any()), None)
    if moved is None:
        text = "No particle has moved."
        show = f"raydrgn explore {quote(run)}" if run else ""
        return Section(title="Next", text=text, commands=show)
    ind = folder.at(pair_folder(labelings, moved), "moved.ind.pkl")
    commands = [] if run is None else selection_commands(open_run(run), ind, name="moved")
    if file is not None and not commands:
        particles, indices = quote(file), quote(ind)
        exports = {
            ".star": f"raydrgn export star {particles} --ind {indices} -o moved.star",
            ".cs": f"raydrgn export cs {particles} --ind {indices} -o moved.cs",
        }
        commands = [exports[suffix_of(file)]]
    text = "The particles that have moved, by themselves:"
    return Section(title="Next", text=text, commands="\n".join(commands))


def summary_lines(pairs: Sequence[Agreement]) -> list[str]:
    """Return what the command prints: a sentence per pair; groups and counts of a single one."""
    lines = [*map(describe, pairs)]
    if len(pairs) == 1 and len(pairs[0].second.names) <= MOST_NUMBERED:
        [pair] = pairs
        groups = _group_cells(pair)
        if len(groups) > 1:
            lines += ["", *_aligned([GROUP_HEAD, *groups])]
        order = pair.column_order()
        counts = [
            (label, *map(str, row.tolist()))
            for label, row in zip(pair.first.names, pair.counts[:, order], strict=True)
        ]
        lines += ["", *_aligned([("", *(pair.second.names[c] for c in order)), *counts])]
    return lines


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in cells
    ]
