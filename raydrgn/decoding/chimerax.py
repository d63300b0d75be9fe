"""ChimeraX scripts of volumes, which ChimeraX runs in the script's folder."""

import re
from collections.abc import Sequence

PLAIN_WORD = re.compile(r"[\w./+-]+")


def volume_script(
    files: Sequence[str],
    *,
    colours: Sequence[str],
    level: float,
    title: str = "",
    names: Sequence[str] = (),
    as_series: bool = False,
) -> str:
    """Return ChimeraX commands that open volumes at one contour level.

    Args:
        files: Their paths from the script's folder.
        colours: Hexadecimal colour of each.
        level: Contour level of all.
        title: Of the script.
        names: What each is called in ChimeraX; none keeps the names of the files.
        as_series: Show the first alone, with a slider over all; otherwise all are shown together.
    """
    count = len(files)
    has_slider = as_series and count > 1
    lines = [
        *(f"# {line}" for line in title.splitlines()),
        "set bgColor white",
        *(f"open {word(file)} id {number}" for number, file in enumerate(files, start=1)),
        f"volume #1-{count} style surface step 1 level {level:.5g}",
        *(f"color #{number} {colour}" for number, colour in enumerate(colours, start=1)),
        *(f"rename #{number} {quoted(name)}" for number, name in enumerate(names, start=1)),
        f"hide #2-{count} models" if has_slider else "",
        "lighting soft",
        "view",
        f"mseries slider #1-{count}" if has_slider else "",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def word(text: str) -> str:
    """Return a path or name as one word of a ChimeraX command."""
    return text if PLAIN_WORD.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """Return a text in the quotation marks that it has not itself."""
    return f"'{text}'" if '"' in text else f'"{text}"'
