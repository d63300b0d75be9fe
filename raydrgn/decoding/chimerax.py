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
    ids: Sequence[int] = (),
) -> str:
    """Return ChimeraX commands that open volumes at one contour level.

    Args:
        files: Their paths from the script's folder.
        colours: Hexadecimal colour of each.
        level: Contour level of all.
        title: Of the script.
        names: What each is called in ChimeraX; none keeps the names of the files.
        as_series: Show the first alone, with a slider over all; otherwise all are shown together.
        ids: Their ids in ChimeraX, ascending; from 1 on if not given.
    """
    ids = ids or range(1, len(files) + 1)
    has_slider = as_series and len(files) > 1
    lines = [
        *(f"# {line}" for line in title.splitlines()),
        "set bgColor white",
        *(f"open {word(file)} id {number}" for number, file in zip(ids, files, strict=True)),
        f"volume #{ids[0]}-{ids[-1]} style surface step 1 level {level:.5g}",
        *(f"color #{number} {colour}" for number, colour in zip(ids, colours, strict=True)),
        *(f"rename #{number} {quoted(name)}" for number, name in zip(ids, names, strict=False)),
        f"hide #{ids[1]}-{ids[-1]} models" if has_slider else "",
        "lighting soft",
        "view",
        f"mseries slider #{ids[0]}-{ids[-1]}" if has_slider else "",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def word(text: str) -> str:
    """Return a path or name as one word of a ChimeraX command."""
    return text if PLAIN_WORD.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """Return a text in the quotation marks that it has not itself."""
    return f"'{text}'" if '"' in text else f'"{text}"'
