"""Masks and reference densities of subunits, read from a folder.

Masks are mostly empty, so they are kept as the rows of one sparse matrix, subunits × voxels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from scipy import sparse

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.masks import check_range, describe_grid, is_same_grid
from raydrgn.io.mrc import MrcHeader, read_volume
from raydrgn.io.storage import Uri
from raydrgn.occupancy.options import Normalisation
from raydrgn.occupancy.table import check_subunit_names
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

MASK_PREFIX = "Mask_"
MASK_FOLDER, REFERENCE_FOLDER = "masks", "reference"
SAME_VOXELS = 0.95
"""Dice coefficient from which two masks count as the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubunitSet:
    """Masks of subunits on one grid."""

    names: tuple[str, ...]
    box: int
    pixel_size_angstrom: float
    """0 if no mask has it in its header."""

    weights: Any
    """Sparse matrix, subunits × voxels in the order of a map's file, float32."""

    reference_sums: Float[np.ndarray, " subunits"] | None = None
    """Sum of each reference density; None where occupancies are not normalised."""

    density: Float[np.ndarray, "d d d"] | None = None
    """Sum of the reference densities: the whole model."""

    def checksums(self) -> dict[str, str | None]:
        """Return checksums of the masks and of the reference sums."""
        weights = self.weights
        masks = weights.data.tobytes() + weights.indices.tobytes() + weights.indptr.tobytes()
        sums = self.reference_sums
        return {
            "masks_checksum": storage.checksum(masks + "\n".join(self.names).encode()),
            "references_checksum": None if sums is None else storage.checksum(sums.tobytes()),
        }

    def normalised(
        self, sums: Float[np.ndarray, "*b subunits"]
    ) -> Float[np.ndarray, "*b subunits"]:
        """Return occupancies from masked sums."""
        return sums if self.reference_sums is None else sums / self.reference_sums

    def check_grid(self, box: int, pixel_size_angstrom: float, *, what: str) -> None:
        """Refuse volumes that are not on the grid of the masks.

        Raises:
            InputError: Naming what does not fit, with both grids.
        """
        volumes, own = (box, pixel_size_angstrom), (self.box, self.pixel_size_angstrom)
        if not is_same_grid(volumes, own):
            raise InputError(
                f"{what} has {describe_grid(*volumes)}, but the masks have "
                f"{describe_grid(*own)}. Make masks on the grid of the maps "
                "(raydrgn occupancy masks --map), or give maps on the grid of the masks."
            )


def refuse_inputs(out: Uri, inputs: Sequence[Uri]) -> None:
    """Refuse an output folder where --overwrite would delete an input.

    Raises:
        ConfigError: If an input is the output folder, or lies in it.
    """
    folder = storage.absolute(out)
    for uri in inputs:
        if f"{storage.absolute(uri)}/".startswith(f"{folder.rstrip('/')}/"):
            raise ConfigError(
                f"-o {out} is or contains {uri}, which is an input. Choose another folder."
            )


def read_subunits(
    folder: Uri, *, references: Uri | None = None, normalize: Normalisation = "reference"
) -> SubunitSet:
    """Read the masks of a folder, and the reference density of each.

    Masks are the ``Mask_NAME.mrc`` of the folder, or of ``masks`` in it; where no file has that
    name, all ``.mrc``. References are ``NAME.mrc``, beside them or in the folder ``reference``.

    Raises:
        InputError: If a mask is empty, has values outside 0 to 1, covers the same voxels as
            another, or has another grid; if a reference is missing, has no density or another
            grid. Files are named.
    """
    mask_folder, files = _mask_files(folder)
    names = list(files)
    check_subunit_names(names)
    found = [read_volume(uri) for uri in files.values()]
    first = found[0][1]
    box, pixel_size = first.shape[0], _pixel_size([header for _, header in found])
    rows = []
    for mask, header in found:
        _check_same_grid(header, first)
        check_range(header.uri, mask)
        if not mask.any():
            raise InputError(f"{header.uri} is empty. Make this mask again, or remove it.")
        rows.append(sparse.csr_array(mask.reshape(1, -1)))
    weights = sparse.csr_array(sparse.vstack(rows))
    _check_overlaps(weights, [header.uri for _, header in found])
    subunits = SubunitSet(
        names=tuple(names), box=box, pixel_size_angstrom=pixel_size, weights=weights
    )
    folders = _reference_folders(folder, mask_folder, references)
    references_found = [_find(folders, name) for name in names]
    if references_found == list(files.values()):
        # masks without the prefix are found as their own references
        if normalize == "none":
            return subunits
        log.warning(
            "%s has no reference densities: occupancies are the mean density within each mask",
            folder,
        )
        return replace(
            subunits, reference_sums=np.asarray(weights.sum(axis=1), dtype=np.float64).ravel()
        )
    if normalize == "none" and not all(references_found):
        return subunits
    return _with_references(subunits, first, folders, normalize=normalize)


def _mask_files(folder: Uri) -> tuple[Uri, dict[str, Uri]]:
    """Return the folder that holds the masks, and the file of each subunit."""
    if not storage.is_folder(folder):
        raise InputError(f"--masks {folder} is not a folder.")
    for prefix in (MASK_PREFIX, ""):
        for candidate in (folder, storage.join(folder, MASK_FOLDER)):
            found = {
                PurePosixPath(name).stem.removeprefix(prefix): storage.join(candidate, name)
                for name in storage.list_names(candidate)
                if name.startswith(prefix) and name.endswith(".mrc")
            }
            if found:
                return candidate, found
    raise InputError(
        f"--masks {folder} contains no .mrc file. Make masks with `raydrgn occupancy masks`."
    )


def _reference_folders(folder: Uri, mask_folder: Uri, references: Uri | None) -> list[Uri]:
    if references is not None:
        if not storage.is_folder(references):
            raise ConfigError(f"--references {references} is not a folder.")
        return [references]
    beside = storage.join(storage.parent(storage.absolute(mask_folder)), REFERENCE_FOLDER)
    return [storage.join(folder, REFERENCE_FOLDER), beside, mask_folder]


def _find(folders: list[Uri], name: str) -> Uri | None:
    for folder in folders:
        uri = storage.join(folder, f"{name}.mrc")
        if storage.exists(uri):
            return uri
    return None


def _with_references(
    subunits: SubunitSet, first: MrcHeader, folders: list[Uri], *, normalize: Normalisation
) -> SubunitSet:
    """Add the reference densities; without normalisation, none of them is missing here."""
    density = np.zeros((subunits.box,) * 3, dtype=np.float32)
    sums = []
    for name in subunits.names:
        uri = _find(folders, name)
        if uri is None:
            raise InputError(
                f"There is no reference density {name}.mrc for the mask of {name} in "
                f"{' or '.join(folders)}. Give its folder with --references, or score masked sums "
                "with --normalize none."
            )
        volume, header = read_volume(uri)
        _check_same_grid(header, first)
        total = float(volume.sum())
        if normalize == "reference" and not total > 0:
            raise InputError(
                f"The reference density of {name}, {uri}, sums up to {total:g}: occupancies are "
                "undefined. Remove the mask of the subunit, or use --normalize none."
            )
        sums.append(total)
        density += volume
    reference_sums = np.array(sums) if normalize == "reference" else None
    return replace(subunits, reference_sums=reference_sums, density=density)


def _pixel_size(headers: list[MrcHeader]) -> float:
    return next((h.pixel_size_angstrom for h in headers if h.pixel_size_angstrom), 0.0)


def _check_same_grid(header: MrcHeader, first: MrcHeader) -> None:
    own, others = ((one.shape[0], one.pixel_size_angstrom) for one in (header, first))
    if not is_same_grid(own, others):
        raise InputError(
            f"{header.uri} has {describe_grid(*own)}, but {first.uri} has "
            f"{describe_grid(*others)}. All masks and references must have the same grid."
        )


def _check_overlaps(weights: Any, uris: list[Uri]) -> None:
    """Refuse masks of the same voxels; the Dice coefficient is 2 a·b / (a·a + b·b)."""
    products = (weights @ weights.T).toarray()
    for a, b in combinations(range(len(uris)), 2):
        dice = 2 * products[a, b] / (products[a, a] + products[b, b])
        if dice >= SAME_VOXELS:
            raise InputError(
                f"{uris[a]} and {uris[b]} are almost the same (Dice coefficient {dice:.3f}), and "
                "so would be their occupancies. Remove one of them."
            )
