"""Reports: one HTML file that holds everything it shows."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from raydrgn import __version__
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.reporting.figures import to_png
from raydrgn.shapes import Float


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


def write_report(uri: Uri, *, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Write a report that needs no other file and no network."""
    environment = Environment(
        loader=PackageLoader("raydrgn.reporting", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["png"] = _data_url
    page = environment.get_template("report.html").render(
        title=title,
        summary=summary,
        sections=sections,
        version=__version__,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    storage.write_bytes(uri, page.encode())


def _data_url(figure: Figure | bytes) -> str:
    png = figure if isinstance(figure, bytes) else to_png(figure)
    return "data:image/png;base64," + base64.b64encode(png).decode()
