"""Reports: one HTML file that holds everything it shows."""

import base64
import io
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from raydrgn import __version__
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.reporting.figures import DPI, to_png
from raydrgn.run.claim import CLAIM_NAME
from raydrgn.run.project_steps import STEPS
from raydrgn.settings import PROJECT
from raydrgn.shapes import Float

FIGURE_INCHES, TABLE_LETTERS = (7.6, 11.0), (56, 84)
"""Widths up to which figures and tables take a third of the page, and half of it."""

FILE_NAME = re.compile(
    r"((?<![\w/.])[\w.-]+(?:/[\w.-]+)*\.(?:cs|csv|cxc|gif|html|json|mrc|parquet|pdf|pkl|png|star|svg|txt|yaml))"
    r"(?!\w)"
)
"""The name of a file, or its path from a folder."""

NUMBER = re.compile(r"[+−-]?\d")
"""Beginning of a cell of numbers, which stand right in their column; text stands left."""

WHERE = "Commands are for the folder of the project."
PROGRAM = "raydrgn "
OF_JOBS = f"{PROGRAM}submit "
"""Beginning of commands that run elsewhere, where no folder is the current one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportTable:
    """A table with its head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def explained_table(share: Float[np.ndarray, " k"]) -> ReportTable:
    """Return the share of the variance that each component explains, and the cumulative share."""
    rows = [
        (f"{k}", f"{100 * own:.1f} %", f"{100 * total:.1f} %")
        for k, (own, total) in enumerate(zip(share, share.cumsum(), strict=True), start=1)
    ]
    return ReportTable(head=("component", "variance explained", "cumulative"), rows=rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of a report."""

    title: str
    text: str = ""
    figures: Sequence[tuple[Figure | bytes, str]] = ()
    """Figures, or PNG files, each with what it shows in words."""

    tables: Sequence[ReportTable] = ()
    commands: str = ""
    """What to type in a shell."""

    where: str = ""
    """In which folder to type it, in words, if not in any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownItem:
    """A figure or a table as it stands on a page."""

    width: str
    """How much of the page it takes: ``third``, ``half`` or ``full``."""

    url: str = ""
    """The picture of a figure."""

    caption: str = ""
    table: ReportTable | None = None
    texts: Sequence[int] = ()
    """Columns of the table, after the first, that are text and not numbers."""


def write_report(uri: Uri, *, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Write a report that needs no other file and no network.

    Names of files that are in the report's folder are links, wherever they stand. Below a project
    paths are those from its folder, which may be moved, or copied: commands of a copy would work on
    the original.
    """
    environment = Environment(
        loader=PackageLoader("raydrgn.reporting", "."), autoescape=True, undefined=StrictUndefined
    )
    folder = storage.parent(uri)
    project = _project_of(folder)
    if project is not None:
        title, summary = _from_project(project, title), _from_project(project, summary)
        sections = [_in_project(section, project) for section in sections]
    environment.filters |= {"items": _items, "pieces": partial(_pieces, folder)}
    page = environment.get_template("report.html").render(
        title=title,
        summary=summary,
        sections=sections,
        files=[n for n in storage.list_names(folder) if _is_listed(n) and n != uri.split("/")[-1]],
        version=__version__,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    storage.write_bytes(uri, page.encode())


def as_in_report(folder: Uri, path: str) -> str:
    """Return a path as the report of a folder has it: below a project, from there."""
    project = _project_of(folder)
    return path if project is None else _from_project(project, path)


def _project_of(folder: Uri) -> Uri | None:
    """Return the project on a disk that a folder is of; None if there is none."""
    if not storage.is_local(folder):
        return None
    place = Path(storage.absolute(folder))
    for found in (place, *place.parents):
        if (found / PROJECT).exists() and (found / STEPS).exists():
            return str(found)
    return None


def _in_project(section: Section, project: Uri) -> Section:
    """Return a section with paths from the folder of a project, for which its commands are."""
    path = partial(_from_project, project)
    commands = "\n".join(map(path, section.commands.split("\n")))
    before = [section.commands, *_cells(section.tables)]
    tables = [
        ReportTable(head=[*map(path, t.head)], rows=[[*map(path, row)] for row in t.rows])
        for t in section.tables
    ]
    after = [commands, *_cells(tables)]
    has_changed = any(a != b and b.startswith(PROGRAM) for a, b in zip(after, before, strict=True))
    return replace(
        section,
        title=path(section.title),
        text=path(section.text),
        figures=[(figure, path(caption)) for figure, caption in section.figures],
        tables=tables,
        commands=commands,
        where=WHERE if has_changed else "",
    )


def _cells(tables: Sequence[ReportTable]) -> list[str]:
    return [str(cell) for table in tables for row in table.rows for cell in row]


def _from_project(project: Uri, text: object) -> str:
    """Return a line with paths from the folder of a project; a command of a job stays."""
    line = str(text)
    if line.startswith(OF_JOBS):
        return line
    if line.startswith(PROGRAM):
        line = re.sub(rf"(?<!\S){re.escape(shlex.quote(project))}(?!\S)", ".", line)
    return re.sub(rf"(?<![\w/.-]){re.escape(project)}/(?=[\w.])", "", line)


def _is_listed(name: str) -> bool:
    """Return whether a report lists a file: not a claim, which is gone when the command ends."""
    return bool(FILE_NAME.fullmatch(name)) and not CLAIM_NAME.fullmatch(name)


def _items(section: Section) -> list[ShownItem]:
    """Return the figures of a section, and its tables: the first one beside the first figure."""
    figures = [_shown_figure(figure, caption) for figure, caption in section.figures]
    tables = [_shown_table(table) for table in section.tables]
    return [*figures[:1], *tables[:1], *figures[1:], *tables[1:]]


def _shown_figure(figure: Figure | bytes, caption: str) -> ShownItem:
    png = figure if isinstance(figure, bytes) else to_png(figure)
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    return ShownItem(width=_width(png_width(png), FIGURE_INCHES), url=url, caption=caption)


def png_width(png: bytes) -> float:
    """Return the width of a picture in inches: its pixels, by the resolution that its file names.

    ``DPI`` where it names none.
    """
    with Image.open(io.BytesIO(png)) as picture:
        return float(picture.width / picture.info.get("dpi", (DPI, DPI))[0])


def _shown_table(table: ReportTable) -> ShownItem:
    with_heads = zip(table.head, *table.rows, strict=True)
    letters = sum(max(len(str(cell)) for cell in column) + 3 for column in with_heads)
    columns = enumerate(zip(*table.rows, strict=True))
    texts = [number for number, cells in columns if number and _is_text(cells)]
    return ShownItem(width=_width(letters, TABLE_LETTERS), table=table, texts=texts)


def _is_text(cells: Sequence[object]) -> bool:
    """Return whether most cells of a column, but for empty ones, do not begin with a number."""
    filled = [str(cell) for cell in cells if str(cell)]
    return 2 * sum(not NUMBER.match(cell) for cell in filled) > len(filled)


def _width(size: float, limits: tuple[float, float]) -> str:
    """Return how much of the page something takes, given the most that fit a third, and a half."""
    third, half = limits
    return "third" if size <= third else "half" if size <= half else "full"


def _pieces(folder: Uri, text: object) -> list[tuple[str, bool]]:
    """Return a text in pieces, and whether each is the name of a file in a folder."""
    return [
        (piece, number % 2 == 1 and storage.exists(storage.join(folder, piece)))
        for number, piece in enumerate(FILE_NAME.split(str(text)))
    ]
