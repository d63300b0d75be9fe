"""Step a of the protocol: contrast and hand of the particles, and their smaller boxes."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.storage import Uri
from raydrgn.protocol.decisions import IMAGES, MAY_CHANGE, ProjectInputs
from raydrgn.protocol.project import Project, Step, step_key
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress

if TYPE_CHECKING:
    from raydrgn.inputs.verdict import Verdict
    from raydrgn.workflows.occupancy_masks import OccupancyMasksSettings

CHECKED = 10_000
"""Particles that are back-projected, as in the paper."""

OF_MODEL = (IMAGES, *MAY_CHANGE)
"""Inputs that the check does not depend on; changed images are refused before it."""

OF_MAP = ("map", *OF_MODEL)
"""Inputs that do not concern the particles."""

GIVEN, CORRECTED = "as-given", "corrected"

SMALLER = "particles."
"""Begin of the names of folders with the images in a smaller box."""


def check_map(inputs: ProjectInputs) -> None:
    """Refuse a map or a model that no step can use.

    Raises:
        RaydrgnError: If the map is no map or has no pixel size, the model is no atomic model or
            lies outside the map, or it lacks a subunit.
    """
    from raydrgn.inputs.comparison import read_reference

    read_reference(inputs.map)
    if inputs.model is None:
        return
    from raydrgn.workflows import occupancy_masks

    settings = mask_settings(inputs, inputs.map, out="masks")  # which are not made yet
    _, subunits, _ = occupancy_masks.read_inputs(settings)
    if not subunits:
        raise InputError(f"{inputs.model} is a map; --model takes an atomic model (PDB, mmCIF).")


def mask_settings(inputs: ProjectInputs, density: Uri, out: Uri) -> "OccupancyMasksSettings":
    """Return the settings of the masks of the model's subunits, on a map."""
    from raydrgn.workflows.occupancy_masks import OccupancyMasksSettings

    assert inputs.model is not None
    return OccupancyMasksSettings(
        models=(inputs.model,), map=density, by=inputs.by or "chain", out=out
    )


def check_inputs(
    project: Project,
    *,
    uninvert_data: bool,
    flip: bool,
    drop_bad: bool,
    executor: Executor,
    progress: Progress,
) -> Step:
    """Back-project particles against the map; find contrast and hand.

    The result has ``uninvert_data`` and ``flip`` as they should be, and why.

    Raises:
        InputError: If the particles do not fit the map.
    """
    inputs = project.decisions.inputs
    assert inputs is not None

    check = _MapCheck(inputs=inputs, drop_bad=drop_bad, executor=executor, progress=progress)
    given = {
        "inputs": {n: c for n, c in project.decisions.checksums.items() if n not in OF_MODEL},
        "half_size_shifts": inputs.source.half_size_shifts,
        "uninvert_data": uninvert_data,
        "flip": flip,
        "drop_bad": drop_bad,
    }
    anew = "with what was wrong given anew (PARTICLES, --map, --half-size-shifts or --drop-bad)"
    make = partial(check.find, uninvert_data=uninvert_data, flip=flip)
    step = project.step("check", given, make, condition=anew)
    # Known by what it found: the steps after it do not depend on how it was given.
    found = {name: step.result[name] for name in ("uninvert_data", "flip")}
    return replace(step, key=step_key(step.name, {**given, **found}, {}))


@dataclass(frozen=True, kw_only=True, slots=True)
class _MapCheck:
    """Back-projections of the first particles, compared with the map."""

    inputs: ProjectInputs
    drop_bad: bool
    executor: Executor
    progress: Progress

    def find(
        self, folder: Uri, *, uninvert_data: bool, flip: bool
    ) -> tuple[dict[str, Any], list[str]]:
        """Return contrast and hand, as given or else corrected, and the files made in a folder.

        Raises:
            InputError: If the particles fit the map in neither way.
        """
        where, now = GIVEN, (uninvert_data, flip)
        found = self._verdict(storage.join(folder, where), *now)
        wanted, why = corrections(found, *now)
        if wanted != now:
            where, now = CORRECTED, wanted
            found = self._verdict(storage.join(folder, where), *now)
        if found.misfits:
            shown = storage.join(folder, where, "backproject.png")
            words = " ".join(found.misfits)
            raise InputError(f"The particles do not fit the map. {words} See {shown}.")
        _require_bright(found, self.inputs.map)
        result = {
            "uninvert_data": now[0],
            "flip": now[1],
            "why": why,
            "maps": where,
            "findings": found.findings + found.problems,
        }
        return result, [f"{where}/map.mrc", f"{where}/backproject.png"]

    def _verdict(self, out: Uri, uninvert_data: bool, flip: bool) -> "Verdict":
        from raydrgn.workflows import backproject

        settings = backproject.BackprojectSettings(
            source=self.inputs.source,
            out=out,
            first=CHECKED,
            uninvert_data=uninvert_data,
            flip=flip,
            reference=self.inputs.map,
            drop_bad=self.drop_bad,
        )
        made = backproject.run(settings, executor=self.executor, progress=self.progress)
        return made.maps.verdict


def _require_bright(found: "Verdict", reference: Uri) -> None:
    """Refuse a map of opposite sign: particles that agree with it give a dark density.

    Raises:
        InputError: If it is.
    """
    from raydrgn.fourier.density import CLEAR_SKEWNESS
    from raydrgn.inputs.comparison import MATCH

    match = found.comparison
    if match is not None and match.score >= MATCH and found.skewness < -CLEAR_SKEWNESS:
        raise InputError(
            f"The particles agree with {reference} where their density is darker than its "
            f"surroundings (skewness {found.skewness:.1f}): the map has the opposite sign, so that "
            "it cannot show that of the images. Change it with `raydrgn invert`, and give the new "
            "one with --map."
        )


def corrections(
    found: "Verdict", uninvert_data: bool, flip: bool
) -> tuple[tuple[bool, bool], dict[str, str]]:
    """Return contrast and hand as a verdict wants them, and the reason of each."""
    from raydrgn.fourier.density import CLEAR_SKEWNESS
    from raydrgn.inputs.comparison import MATCH

    match = found.comparison
    why = {"hand": "the map does not decide", "contrast": "the map does not decide"}
    if match is not None and match.score >= MATCH:
        agreement = f"correlation {match.score:.2f} with the map"
        is_mirror = match.name != "as is"
        why["hand"] = f"{agreement}, as {match.name}" if is_mirror else agreement
        flip = flip != is_mirror
        if match.is_negative:
            why["contrast"] = f"{agreement}, but as its negative"
        else:
            why["contrast"] = agreement
        uninvert_data = uninvert_data != match.is_negative
    elif abs(found.skewness) > CLEAR_SKEWNESS:
        why["contrast"] = f"the density has a skewness of {found.skewness:.1f}"
        uninvert_data = uninvert_data != (found.skewness < 0)
    return (uninvert_data, flip), why


def in_box(
    project: Project,
    box: int,
    *,
    image_box: int,
    drop_bad: bool,
    executor: Executor,
    progress: Progress,
) -> tuple[ParticleSource, list[Step]]:
    """Return the particles in a box, and the step that made them: none if they have it already."""
    inputs = project.decisions.inputs
    assert inputs is not None
    if box == image_box:
        return inputs.source.absolute(), []
    name = "particles.parquet"

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.workflows import downsample

        settings = downsample.DownsampleSettings(
            source=inputs.source, box=box, out=storage.join(folder, name), drop_bad=drop_bad
        )
        made = downsample.run(settings, executor=executor, progress=progress)
        assert made.particles is not None
        return {"particles": len(made.particles)}, [name, "particles.mrcs"]

    given = {
        "inputs": {n: c for n, c in project.decisions.checksums.items() if n not in OF_MAP},
        "half_size_shifts": inputs.source.half_size_shifts,
        "box": box,
        "drop_bad": drop_bad,
    }
    step = project.step(f"particles of {box} px", given, make, folder=f"{SMALLER}{box}")
    return ParticleSource(particles=step.at(name)), [step]
