"""What is written of the agreement of two halves: tables, maps, figures, a page."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from raydrgn.fourier.shells import frequencies
from raydrgn.halves.agreement import FEWEST_SHELLS, PARTIAL, WHOLE
from raydrgn.halves.comparison import Agreement
from raydrgn.halves.components import LEAST_SHARE, Support, support_figure
from raydrgn.halves.splitting import HALVES
from raydrgn.halves.states import LEAST_PARTICLES
from raydrgn.io import storage
from raydrgn.io.mrc import write_volume
from raydrgn.reporting.figures import Tile, fsc_figure, sheet
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float

HEAD = (
    "state",
    "particles, half 1",
    "particles, half 2",
    "volume, Å",
    "difference, Å",
    "difference, % of density",
    "correlation of differences",
    "judgement",
)


def write_agreement(
    agreement: Agreement,
    folder: ResultFolder,
    *,
    title: str,
    support: Support | None,
    concern: str | None,
) -> None:
    """Write tables, maps and the report.

    Args:
        agreement: How the volumes of the halves agree.
        folder: Where to.
        title: Of the report.
        support: Components and states that the halves support; None for an autoencoder.
        concern: Why the halves may agree for another reason, if there is one.
    """
    folder.write_table("states.csv", HEAD, _rows(agreement))
    storage.write_bytes(folder.at("fsc.csv"), _curves(agreement).encode())
    _write_map(folder, "mask.mrc", agreement.mask, agreement)
    _write_map(folder, "local_resolution.mrc", agreement.local_resolution, agreement)
    for number, found in zip(agreement.states.numbers, agreement.found, strict=True):
        _write_map(folder, f"difference_{number:03d}.mrc", found.difference, agreement)
        _write_map(folder, f"local_correlation_{number:03d}.mrc", found.local, agreement)
    sections = [_of_states(agreement), _of_differences(agreement), _of_volumes(agreement)]
    if support is not None:
        sections.append(_of_support(support))
    summary = [concern, agreement.summary, support and support.summary]
    write_report(
        folder.at("report.html"),
        title=title,
        summary=" ".join(part for part in summary if part),
        sections=sections,
    )
    if support is not None:
        for name, gains in (("components", support.components), ("states", support.states)):
            head = (f"number of {name}", *(f"gain of half {half}" for half in reversed(HALVES)))
            folder.write_table(f"number_of_{name}.csv", head, gains.rows)


def _write_map(
    folder: ResultFolder, name: str, values: Float[np.ndarray, "d d d"], agreement: Agreement
) -> None:
    write_volume(folder.at(name), values, pixel_size_angstrom=agreement.pixel_size_angstrom)


def _curves(agreement: Agreement) -> str:
    box = agreement.mask.shape[-1]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("state", "shell", "frequency_per_angstrom", "fsc", "fsc_of_differences"))
    per_angstrom = frequencies(box) / agreement.pixel_size_angstrom
    for number, found in zip(agreement.states.numbers, agreement.found, strict=True):
        columns = (per_angstrom.tolist(), found.fsc.tolist(), found.difference_fsc.tolist())
        for shell, (frequency, *values) in enumerate(zip(*columns, strict=True)):
            writer.writerow(
                (number, shell, f"{frequency:.6f}", *(f"{value:.6f}" for value in values))
            )
    return text.getvalue()


def _of_states(agreement: Agreement) -> Section:
    left_out = ", ".join(map(str, agreement.states.left_out))
    least, clear = agreement.limits
    return Section(
        title="States",
        text="A state is a cluster of the whole run's latents. The run was trained anew on "
        "each half of its particles, from random weights of its own; in each half, the state's "
        "volume is decoded at the mean latent of the half's particles in that cluster. "
        "The correlation is the mean FSC of the differences from the mean volume, to the "
        f"resolution of the volumes: from {WHOLE:g} on a difference is reproduced, from "
        f"{PARTIAL:g} on partly, and one of less than {100 * least:g} % of the density is not clear"
        + (f", unless its correlation is {clear:g} or more" if clear else "")
        + f". Where the volumes agree in fewer than {FEWEST_SHELLS} shells, it is not reproduced. "
        "The halves share the poses, and which particles the whole run has "
        "put into one cluster: errors of those can be reproduced too."
        + (
            f" Left out for fewer than {LEAST_PARTICLES} particles in a half: {left_out}."
            if left_out
            else ""
        ),
        tables=[ReportTable(head=HEAD, rows=_rows(agreement))],
    )


def _of_differences(agreement: Agreement) -> Section:
    curves = [found.difference_fsc.numpy() for found in agreement.found]
    return Section(
        title="Differences from the mean volume",
        figures=[
            (
                _fsc_of_states(agreement, curves),
                "FSC of each state's difference from the mean volume, between the halves, "
                "within the mask.",
            ),
            (
                sheet(_tiles(agreement)),
                "Central slices of each state's difference (mean of the halves, to the "
                "resolution of its volume), and how the halves agree on it around each voxel, "
                "from 0 (black) to 1 (white).",
            ),
        ],
    )


def _of_volumes(agreement: Agreement) -> Section:
    curves = [found.fsc.numpy() for found in agreement.found]
    return Section(
        title="Volumes",
        figures=[
            (
                _fsc_of_states(agreement, curves),
                "FSC of each state's volume between the halves, corrected for the mask.",
            )
        ],
    )


def _fsc_of_states(agreement: Agreement, curves: Sequence[Float[np.ndarray, " shells"]]) -> Figure:
    """Draw one FSC for each state, over the spatial frequency."""
    names = [f"state {number}" for number in agreement.states.numbers]
    return fsc_figure(
        frequencies(agreement.mask.shape[-1]).numpy(),
        list(zip(names, curves, strict=True)),
        pixel_size_angstrom=agreement.pixel_size_angstrom,
    )


def _of_support(support: Support) -> Section:
    return Section(
        title="Components and states",
        text="Mean logarithm of the probability of an image of one half, by the fit of the other, "
        "of which only the first components are taken, or whose latents have a prior of some "
        "number of states. Components and states that only fit noise lower it. "
        f"{support.summary} Of numbers whose gains are within a standard error of the largest, and "
        f"of states within {LEAST_SHARE:.0%} of it, the smallest is named, at the grey lines.",
        figures=[(support_figure(support), "Gain of the images of each half, by the other's fit.")],
    )


def _tiles(agreement: Agreement) -> list[tuple[str, list[Tile]]]:
    centre = agreement.mask.shape[-1] // 2
    rows = []
    for number, found in zip(agreement.states.numbers, agreement.found, strict=True):
        tiles = []
        for axis, name in enumerate("zyx"):
            difference = found.difference.take(centre, axis)
            agree = found.local.take(centre, axis).clip(0, 1)
            tiles += [
                Tile(image=difference, title=f"difference ⊥ {name}"),
                Tile(image=agree, title="agreement", limits=(0.0, 1.0)),
            ]
        rows.append((f"state {number}", tiles))
    return rows


def _rows(agreement: Agreement) -> list[tuple[str, ...]]:
    """Return a row of ``HEAD`` for each state."""
    return [
        (
            str(number),
            *map(str, sizes),
            f"{found.resolution_angstrom:.1f}",
            "–"
            if np.isinf(found.difference_resolution_angstrom)
            else f"{found.difference_resolution_angstrom:.1f}",
            f"{100 * found.amplitude:.1f}",
            f"{found.correlation:.2f}",
            found.judgement,
        )
        for number, sizes, found in zip(
            agreement.states.numbers, agreement.states.sizes, agreement.found, strict=True
        )
    ]
