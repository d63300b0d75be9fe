"""``raydrgn occupancy masks``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.remote.progress import Progress
from raydrgn.workflows import occupancy_masks as workflow
from raydrgn.workflows.occupancy_masks import OccupancyMasksSettings


@command(OccupancyMasksSettings)
def masks(settings: OccupancyMasksSettings, progress: Progress) -> None:
    """Make the mask and the reference density of each subunit of an atomic model.

    Writes OUT/masks/Mask_NAME.mrc, OUT/reference/NAME.mrc, OUT/subunits.json (the atoms of each
    subunit) and OUT/subunits.png, the outlines on slices of the map. Densities are those of
    ChimeraX's molmap.

    With --fit, the model may lie anywhere, turned in any way: a rotation and a shift are searched
    for at which it correlates best with the map, never a mirror image, and the models that were
    moved are written into OUT/model. What was found is printed; check it on OUT/subunits.png.

    A YAML file names selections: `uL1: A`, `H68: AA:1852-1893`, `stalk: [G, {chains: [H, I],
    residues: [1-60]}]`, `core: {chain: C, secondary: helix}`; also `helices`, `sheets` (by their
    number in the file) and `file`.
    """
    found = workflow.run(settings, progress=progress)
    if found.fit:
        motion = found.fit.motion
        how = "not moved, it fits already" if motion.is_none else motion.describe()
        result(
            f"model {how}; correlation with the map {found.fit.correlation_before:.2f} → "
            f"{found.alignment.correlation:.2f}"
        )
    voxels = sorted(len(mask.voxels) for mask in found.masks)
    result(
        f"{len(found.masks)} subunits of {voxels[0]}–{voxels[-1]} voxels → {found.folder.uri}; "
        f"correlation of map and model {found.alignment.correlation:.2f}"
    )
