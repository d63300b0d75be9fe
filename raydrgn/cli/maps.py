"""``raydrgn fsc``, ``flip`` and ``invert``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.workflows import maps as workflow
from raydrgn.workflows.maps import FlipSettings, FscSettings, InvertSettings, MapResult


@command(FscSettings)
def fsc(settings: FscSettings) -> None:
    """Correlate two maps shell by shell, and print where the FSC falls below 0.5 and 0.143.

    0.143 is for half maps; 0.5 for maps of different data, or a model. With --mask, the part of the
    correlation that the mask makes is found from maps with random phases and removed. With -o,
    writes the curves.
    """
    found = workflow.run_fsc(settings)
    result(*found.lines())
    if found.folder is not None:
        result(f"→ {found.folder.at('fsc.png')}")


@command(FlipSettings)
def flip(settings: FlipSettings) -> None:
    """Write a map of opposite handedness: its z axis reversed, as --flip of other commands does."""
    result(_line(workflow.run_flip(settings)))


@command(InvertSettings)
def invert(settings: InvertSettings) -> None:
    """Write a map of opposite sign, as --invert of other commands does."""
    result(_line(workflow.run_invert(settings)))


def _line(made: MapResult) -> str:
    size = f" of {made.pixel_size_angstrom:.4g} Å" if made.pixel_size_angstrom else ""
    return f"map of {made.box} px{size} → {made.out}"
