"""A ChimeraX script of the volumes that were saved: as the page shows them."""

from collections.abc import Sequence


def script(files: Sequence[str], colours: Sequence[str], *, level: float) -> str:
    """Return ChimeraX commands that open volumes at a density; run in the script's folder.

    Args:
        files: Names of the volumes.
        colours: Colour of each, as #rrggbb.
        level: Density of the surfaces, the same for all.
    """
    lines = ["set bgColor white"]
    for number, (file, colour) in enumerate(zip(files, colours, strict=True), start=1):
        lines += [
            f"open {file} id {number}",
            f"volume #{number} style surface step 1 level {level:.5g}",
            f"color #{number} {colour}",
        ]
    return "\n".join([*lines, "lighting soft", "view", ""])
