"""What the page saves, and the commands that do the same; the workflow hands in what does it."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raydrgn.io.storage import Uri
from raydrgn.latent.conditions import Among, Conditions


@dataclass(frozen=True, kw_only=True)
class Actions:
    """The workflows that save for the page, by what they are for."""

    save_selection: Callable[[int | None, Uri, Uri], list[str]]
    """With epoch, file of conditions and folder: `filter` and exports; returns what to tell."""

    save_volumes: Callable[[int | None, Sequence[int] | Uri, Uri], list[str]]
    """With epoch, rows or a file of latents, and folder: `volumes`; returns those that failed."""

    train: Callable[[Uri, str], dict[str, str | bool]]
    """With the folder of a saved selection and a name: the settings of `train` on it; none if the
    particles are not known."""


def train_command(settings: Mapping[str, str | bool]) -> str:
    """Return the command that settings of `train` stand for; empty if there are none."""
    if not settings:
        return ""
    words = ["raydrgn", "train", str(settings["particles"]), "-o", "NEW_RUN"]
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif name == "passthrough":  # which may be repeated
            words += [word for file in shlex.split(str(value)) for word in (option, file)]
        elif name not in ("particles", "out"):
            words += [option, str(value)]
    return shlex.join(words)


def filter_command(
    run: Uri, epoch: int | None, conditions: Conditions, file: Uri, labels: Uri | None
) -> str:
    """Return the command that selects as conditions do.

    Args:
        run: The run.
        epoch: Its epoch.
        conditions: The conditions.
        file: Where they are, or will be, saved.
        labels: File of the column ``label``, if there is one.
    """
    words = ["raydrgn", "filter", run, *([] if epoch is None else [str(epoch)])]
    only = conditions[0].condition
    if len(conditions) == 1 and isinstance(only, Among) and only.column.startswith("kmeans"):
        is_kept = not conditions[0].join.endswith("not")
        words.append("--keep-clusters" if is_kept else "--drop-clusters")
        words += [",".join(map(str, only.values)), "--ksample", only.column.removeprefix("kmeans")]
    else:
        words += ["--conditions", file]
        words += ["--labels", labels] if labels else []
    return shlex.join(words)
