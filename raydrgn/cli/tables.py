"""Tables on the terminal. Cells are text as it is: brackets in a path are no markup."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from raydrgn.cli.console import console


def show_facts(
    title: str,
    facts: Iterable[tuple[str, str]],
    *,
    highlighted: Iterable[tuple[str, str]] = (),
    numbers: bool = False,
) -> None:
    """Print names and values.

    Args:
        title: Title of the table.
        facts: Names and values.
        highlighted: Those that want attention, at the end.
        numbers: Whether values are numbers, which are aligned at their ends.
    """
    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold", justify="right" if numbers else "left")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    for name, value in highlighted:
        table.add_row(Text(name, style="bold red"), Text(value))
    console.print(table, highlight=False)
