"""Weights of epochs that a run need not keep: all but every n-th, the last, and those with results.

Latents and losses of every epoch stay: convergence is judged by them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.directory import RunDirectory
from raydrgn.run.identity import MADE_FROM, SETTINGS
from raydrgn.run.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochWeights:
    """The weights of an epoch, as a file."""

    epoch: int
    uri: Uri
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsOfEpochs:
    """Which epochs' weights are kept, and which are not needed."""

    kept: Mapping[int, str]
    """Epochs whose weights are kept, ascending, and why."""

    surplus: tuple[EpochWeights, ...]
    """Weights that are not needed, ascending."""


def weights_of_epochs(run: RunDirectory, *, every: int, newest: int = 1) -> WeightsOfEpochs:
    """Return which epochs' weights a run keeps, and which it need not.

    Only weights that the manifest records, in their recorded size, are surplus: others are not of
    this run, or were changed since.

    Args:
        run: The run.
        every: Weights of every n-th epoch are kept.
        newest: The last epochs of which all are kept.

    Raises:
        RunDirectoryError: If the manifest, or a record of results, cannot be read.
    """
    manifest, present = Manifest.read(run.manifest), set(storage.list_names(run.root))
    finished = manifest.finished_epochs()
    results = _epochs_with_results(run, manifest)
    kept: dict[int, str] = {}
    surplus = []
    for epoch in finished:
        uri = run.weights(epoch)
        if uri.rsplit("/", 1)[-1] not in present:
            continue
        if epoch in finished[-newest:]:
            kept[epoch] = "the last" if newest == 1 else f"one of the last {newest}"
        elif epoch % every == 0:
            kept[epoch] = f"a multiple of {every}"
        elif epoch in results:
            kept[epoch] = f"results in {results[epoch]}"
        elif (size := storage.file_size(uri)) != manifest.epochs[epoch]["weights"].size:
            kept[epoch] = "not as training wrote it"
        else:
            surplus.append(EpochWeights(epoch=epoch, uri=uri, size=size))
    return WeightsOfEpochs(kept=kept, surplus=tuple(surplus))


def _epochs_with_results(run: RunDirectory, manifest: Manifest) -> dict[int, str]:
    """Return the epochs that results in the run directory were made from, and a folder of each.

    Results of weights that training has replaced since do not count.
    """
    found: dict[int, str] = {}
    for name in storage.list_files(run.root):
        folder, _, file = name.rpartition("/")
        if file != SETTINGS or not folder:
            continue
        uri = storage.join(run.root, name)
        try:
            origin = json.loads(storage.read_bytes(uri)).get(MADE_FROM) or {}
            epoch, weights = origin.get("epoch"), origin.get("weights")
        except (ValueError, AttributeError) as error:
            raise RunDirectoryError(
                f"{uri} is damaged ({error}), so that it is not known of which epoch its results "
                "are. Delete its folder, or move it out of the run."
            ) from error
        if not isinstance(epoch, int):
            continue
        of_epoch = manifest.epochs.get(epoch, {}).get("weights")
        if of_epoch is not None and of_epoch.sha256 == weights:
            found.setdefault(epoch, folder)
    return found
