"""What a file or a run contains, in a table of facts, and what about it looks wrong.

Nothing is refused: what cannot be read is said, and what can be is shown.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from raydrgn.data.preprocess import find_bad
from raydrgn.errors import InputError, RaydrgnError
from raydrgn.geometry.rotations import orthogonality_error
from raydrgn.io import cryodrgn, storage
from raydrgn.io.mrc import MODES, MrcHeader, read_header, read_slices
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, ORTHOGONALITY_TOLERANCE, ParticleTable
from raydrgn.io.sources import STACK_SUFFIXES, open_particles
from raydrgn.io.stacks import read_headers
from raydrgn.io.storage import Uri
from raydrgn.run.reader import open_run
from raydrgn.shapes import Float

SAMPLE = 64
"""Images of a stack that are looked at."""

USUAL: dict[str, tuple[float, float]] = {
    "defocus_u_angstrom": (1_000, 60_000),
    "defocus_v_angstrom": (1_000, 60_000),
    "voltage_kv": (80, 1_000),
    "spherical_aberration_mm": (0, 5),
    "amplitude_contrast": (0.01, 0.3),
    "phase_shift_deg": (-180, 180),
}
"""Beyond these, a value is not impossible, but is more often another unit or a placeholder."""

LABELS = {
    "defocus_u_angstrom": "defocus U (Å)",
    "defocus_v_angstrom": "defocus V (Å)",
    "defocus_angle_deg": "defocus angle (°)",
    "voltage_kv": "voltage (kV)",
    "spherical_aberration_mm": "Cs (mm)",
    "amplitude_contrast": "amplitude contrast",
    "phase_shift_deg": "phase shift (°)",
}
FAR_SHIFT = 0.25  # of the box
PIXEL_SIZE_TOLERANCE = 0.01
TORCH_ARCHIVE = b"PK\x03\x04"


@dataclass(slots=True)
class Inspection:
    """Facts by name, in order, and sentences on what looks wrong."""

    uri: Uri
    kind: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    concerns: list[str] = field(default_factory=list)

    def add(self, name: str, value: object) -> None:
        """Add a fact."""
        self.facts.append((name, str(value)))

    def add_range(self, name: str, values: np.ndarray) -> None:
        """Add the range of some numbers; one number if they are all alike."""
        low, high = float(np.min(values)), float(np.max(values))
        self.add(name, f"{low:.6g}" if low == high else f"{low:.6g} … {high:.6g}")


def inspect(uri: Uri, *, datadir: Uri | None = None) -> Inspection:
    """Look at a stack, map, particle file, pickle or run.

    Raises:
        StorageError: If there is no such file.
        InputError: If it is of no kind that is known.
    """
    if storage.is_folder(uri):
        return _inspect_run(uri)
    storage.file_size(uri)  # raises where there is nothing
    suffix = PurePosixPath(uri).suffix.lower()
    readers: dict[str, Callable[[Uri], Inspection]] = {
        ".pkl": _inspect_pickle,
        ".npy": _inspect_array,
        **dict.fromkeys(STACK_SUFFIXES, _inspect_stack),
    }
    if suffix in readers:
        return readers[suffix](uri)
    if suffix in (".star", ".cs", ".parquet", ".txt"):
        return _inspect_particles(uri, datadir)
    raise InputError(
        f"{uri} is of no known kind; known are .mrc, .mrcs, .txt, .star, .cs, .parquet, .pkl, .npy "
        "and run directories."
    )


def _inspect_particles(uri: Uri, datadir: Uri | None) -> Inspection:
    names = {".star": "RELION particles", ".cs": "cryoSPARC particles", ".txt": "list of stacks"}
    found = Inspection(uri, names.get(PurePosixPath(uri).suffix.lower(), "particle table"))
    source = ParticleSource(particles=uri, datadir=datadir)
    try:
        table = open_particles(source)
    except RaydrgnError as error:
        found.concerns.append(str(error))
        try:
            table = open_particles(source, need_images=False)
        except RaydrgnError as second:
            if str(second) != str(error):
                found.concerns.append(str(second))
            return found
        _describe_table(table, found)
        return found
    _describe_table(table, found)
    _describe_stacks(table, found)
    return found


def _describe_table(table: ParticleTable, found: Inspection) -> None:
    names = table.table.column_names
    found.add("particles", f"{len(table):,}")
    found.add("stacks", f"{len(table.stacks):,}")
    boxes = Counter(table.column("box").tolist())
    found.add(
        "box (px)",
        ", ".join(f"{box}: {n:,}" for box, n in boxes.items())
        if len(boxes) > 1
        else next(iter(boxes), "–"),
    )
    if len(boxes) > 1:
        found.concerns.append("Images differ in size; downsample each optics group by itself.")
    if any(box % 2 for box in boxes):
        found.concerns.append("The box is odd; an even one is needed.")
    if "pixel_size_angstrom" in names:
        found.add_range("pixel size (Å)", table.column("pixel_size_angstrom"))
    else:
        found.concerns.append("The pixel size is not known.")
    if "optics_group" in names:
        groups = Counter(table.table.column("optics_group").to_pylist())
        found.add("optics groups", ", ".join(f"{g}: {n:,}" for g, n in sorted(groups.items())))
    images = np.stack([table.stack_codes, table.column("slice")], axis=-1)
    repeated = len(table) - len(np.unique(images, axis=0))
    if repeated:
        found.concerns.append(f"{repeated} images are listed more than once.")
    if "uid" in names and len(np.unique(table.column("uid"))) < len(table):
        found.concerns.append("Some uids are there more than once.")
    found.add("poses", "yes" if table.has_poses else "no")
    if table.has_poses:
        _describe_poses(table.rotations, table.column("shift_angstrom"), "Å", found)
        if "pixel_size_angstrom" in names:
            field_angstrom = table.column("box") * table.column("pixel_size_angstrom")
            _check_shifts(table.column("shift_angstrom") / field_angstrom[:, None], found)
    found.add("CTF", "yes" if table.has_ctf else "no")
    if table.has_ctf:
        for name in CTF_COLUMNS:
            _describe_ctf_column(name, table.column(name), found)


def _describe_poses(
    rotations: Float[np.ndarray, "n 3 3"],
    shifts: Float[np.ndarray, "n 2"],
    unit: str,
    found: Inspection,
) -> None:
    for i, axis in enumerate("xy"):
        found.add_range(f"shift {axis} ({unit})", shifts[:, i])
    if len(rotations) > 1 and np.ptp(rotations, axis=0).max() < 1e-6:
        found.concerns.append("All rotations are the same: these are no poses of a refinement.")
    views = rotations[:, 2]
    if len(views) > 100 and (views[:, 2] >= 0).all():
        found.concerns.append(
            "All views are of one hemisphere; the refinement may have had limits."
        )


def _check_shifts(fractions: Float[np.ndarray, "n 2"], found: Inspection) -> None:
    far = int((np.abs(fractions).max(axis=1, initial=0) > FAR_SHIFT).sum())
    if far:
        found.concerns.append(
            f"{far} shifts are larger than a quarter of the box; check the pixel size of the "
            "shifts."
        )


def _describe_ctf_column(name: str, values: Float[np.ndarray, " n"], found: Inspection) -> None:
    finite = values[np.isfinite(values)]
    if len(finite) < len(values):
        found.concerns.append(
            f"{LABELS[name]} is not a number for {len(values) - len(finite)} rows."
        )
    if not len(finite):
        return
    found.add_range(LABELS[name], finite)
    low, high = USUAL.get(name, (-np.inf, np.inf))
    odd = int(((finite < low) | (finite > high)).sum())
    if odd:
        found.concerns.append(
            f"{LABELS[name]} is outside {low:g} … {high:g} for {odd} rows; check its unit."
        )


def _describe_stacks(table: ParticleTable, found: Inspection) -> None:
    headers = read_headers(table.stacks)
    modes = Counter(_pixel_type(header) for header in headers)
    found.add("pixels", ", ".join(f"{kind}: {n}" for kind, n in modes.items()))
    size = sum(header.slice_bytes * header.shape[0] for header in headers)
    found.add("stacks' size", f"{size / 1e9:.2f} GB")
    unused = sum(header.shape[0] for header in headers) - len(table)
    if unused > 0:
        found.add("images not listed", f"{unused:,}")
    said = {round(h.pixel_size_angstrom, 4) for h in headers if h.pixel_size_angstrom}
    if said and "pixel_size_angstrom" in table.table.column_names:
        known = table.column("pixel_size_angstrom")
        if min(np.abs(known / size - 1).min() for size in said) > PIXEL_SIZE_TOLERANCE:
            found.concerns.append(
                f"Stacks say a pixel size of {', '.join(map(str, sorted(said)))} Å, the particle "
                f"file {known[0]:.4f} Å."
            )
    _describe_sample(headers[0], found)


def _pixel_type(header: MrcHeader) -> str:
    order = ", big-endian" if header.dtype.byteorder == ">" else ""
    modes = {kind: mode for mode, kind in MODES.items()} | {"u1": 0}
    mode = modes[f"{header.dtype.kind}{header.dtype.itemsize}"]
    return f"{header.dtype.newbyteorder('=').name} (mode {mode}{order})"


def _inspect_stack(uri: Uri) -> Inspection:
    header = read_header(uri)
    depth, height, width = header.shape
    is_map = header.is_volume and depth == height == width
    found = Inspection(uri, "map" if is_map else "stack of images")
    found.add("slices", f"{depth:,}")
    found.add("box (px)", f"{width}" if height == width else f"{width} × {height}")
    found.add("pixels", _pixel_type(header))
    if header.pixel_size_angstrom:
        found.add("pixel size (Å)", f"{header.pixel_size_angstrom:.6g}")
    else:
        found.concerns.append("The header does not say the pixel size.")
    if is_map:
        found.add("origin (Å)", ", ".join(f"{value:g}" for value in header.origin_angstrom))
    elif header.is_volume:
        found.concerns.append("The header calls it a map, but it is no cube; read as images.")
    if height != width:
        found.concerns.append("The images are not square.")
    if width % 2:
        found.concerns.append("The box is odd; an even one is needed.")
    _describe_sample(header, found)
    return found


def _describe_sample(header: MrcHeader, found: Inspection) -> None:
    """Describe the grey values of evenly taken slices of a file; of all planes of a map."""
    count = header.shape[0]
    numbers = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(int))
    if count == header.shape[1] == header.shape[2] and header.is_volume:
        values = read_slices(header, 0, count).astype(np.float32)
    else:
        values = np.concatenate([read_slices(header, int(i), 1) for i in numbers]).astype(
            np.float32
        )
        bad = int(find_bad(values).sum())
        if bad:
            found.concerns.append(
                f"{bad} of {len(values)} images looked at have one grey value or pixels that are "
                "not finite."
            )
    finite = values[np.isfinite(values)]
    if len(finite) < values.size:
        found.concerns.append(f"{values.size - len(finite)} values are not finite.")
    if len(finite):
        found.add_range("grey values", finite)
        found.add("mean, deviation", f"{finite.mean():.4g}, {finite.std(dtype=np.float64):.4g}")


def _inspect_pickle(uri: Uri) -> Inspection:
    if storage.read_bytes(uri, 0, 4) == TORCH_ARCHIVE:
        found = Inspection(uri, "weights (torch archive)")
        found.add("size", f"{storage.file_size(uri) / 1e6:.1f} MB")
        return found
    parts = cryodrgn.read_pickles(uri, count=2)
    first = parts[0]
    if isinstance(first, tuple | list) and len(first) == 2 and np.ndim(first[0]) == 3:
        return _inspect_poses(uri, np.asarray(first[0]), np.asarray(first[1]))
    return _inspect_values(uri, [np.asarray(part) for part in parts])


def _inspect_array(uri: Uri) -> Inspection:
    return _inspect_values(uri, [np.load(storage.local_path(uri), allow_pickle=False)])


def _inspect_poses(uri: Uri, rotations: np.ndarray, shifts: np.ndarray) -> Inspection:
    found = Inspection(uri, "poses")
    found.add("particles", f"{len(rotations):,}")
    if rotations.shape[1:] != (3, 3) or shifts.shape != (len(rotations), 2):
        found.concerns.append(
            f"Shapes are {rotations.shape} and {shifts.shape}; (N, 3, 3) and (N, 2) are meant."
        )
        return found
    _describe_poses(rotations, shifts, "of the box", found)
    wrong = int((orthogonality_error(rotations) > ORTHOGONALITY_TOLERANCE).sum())
    if wrong:
        found.concerns.append(f"{wrong} matrices are no rotations.")
    outside = int((np.abs(shifts) > 1).any(axis=1).sum())
    if outside:
        found.concerns.append(f"{outside} shifts are larger than the box: are they in pixels?")
    else:
        _check_shifts(shifts, found)
    return found


def _inspect_values(uri: Uri, parts: list[np.ndarray]) -> Inspection:
    first = parts[0]
    if first.ndim == 3 and first.shape[1:] == (3, 3):
        return _inspect_poses(uri, first, np.zeros((len(first), 2)))
    if (
        first.ndim == 2
        and first.shape[1] == cryodrgn.CTF_PICKLE_COLUMNS
        and len(parts) == 1
        and (first[:, 0] > 1).all()
    ):
        found = Inspection(uri, "CTF parameters")
        found.add("particles", f"{len(first):,}")
        found.add_range("box (px)", first[:, 0])
        found.add_range("pixel size (Å)", first[:, 1])
        for i, name in enumerate(CTF_COLUMNS):
            _describe_ctf_column(name, first[:, 2 + i], found)
        return found
    if first.ndim == 1 and first.dtype.kind in "iub":
        return _inspect_numbers(uri, first)
    found = Inspection(uri, "latents" if first.ndim == 2 and first.dtype.kind == "f" else "array")
    found.add("shape", " × ".join(map(str, first.shape)) + f", {first.dtype.name}")
    if len(parts) > 1:
        found.add("parts", "means and log-variances")
    for part in parts:
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            found.concerns.append("Some values are not finite.")
    if first.size and first.dtype.kind in "iuf":
        found.add_range("values", first)
    return found


def _inspect_numbers(uri: Uri, numbers: np.ndarray) -> Inspection:
    found = Inspection(uri, "particle numbers or labels")
    found.add("numbers", f"{len(numbers):,}")
    if not len(numbers):
        found.concerns.append("There are none.")
        return found
    found.add_range("range", numbers.astype(np.int64))
    distinct = len(np.unique(numbers))
    found.add("distinct", f"{distinct:,}")
    found.add("ascending", "yes" if (np.diff(numbers.astype(np.int64)) >= 0).all() else "no")
    if numbers.dtype.kind == "i" and numbers.min() < 0:
        found.concerns.append("Some numbers are negative.")
    return found


def _inspect_run(uri: Uri) -> Inspection:
    run = open_run(uri)
    found = Inspection(uri, f"run of {'cryoDRGN' if run.is_foreign else 'raydrgn'}")
    model = run.model
    found.add("box (px)", run.box)
    found.add(
        "pixel size (Å)", f"{run.pixel_size_angstrom:.6g}" if run.pixel_size_angstrom else "–"
    )
    found.add("latent dimension", model.zdim)
    found.add("encoder", f"{model.encoder_width} × {model.encoder_layers}")
    found.add("decoder", f"{model.decoder_width} × {model.decoder_layers}, {model.encoding}")
    epochs = run.files.epochs()
    found.add("epochs finished", f"{len(epochs)}, the last {epochs[-1]}" if epochs else "none")
    if not run.pixel_size_angstrom:
        found.concerns.append("The pixel size is not known; volumes need --pixel-size.")
    if not epochs:
        found.concerns.append("No epoch is finished.")
    else:
        _describe_latents(run.latents(epochs[-1]), found)
    if not run.is_foreign and storage.exists(run.files.particles):
        table = run.particles()
        _describe_table(table, found)
        missing = [stack for stack in table.stacks if not storage.exists(stack)]
        if missing:
            found.concerns.append(f"{len(missing)} stacks are gone, the first is {missing[0]}.")
    return found


def _describe_latents(latents: Float[np.ndarray, "n zdim"], found: Inspection) -> None:
    finite = np.isfinite(latents).all(axis=1)
    found.add("latents", f"{len(latents):,}")
    if not finite.all():
        found.concerns.append(f"{int((~finite).sum())} latents are not finite.")
    if finite.any():
        norms = np.linalg.norm(latents[finite], axis=1)
        found.add("‖z‖", f"{norms.mean():.3g} ± {norms.std():.3g}, at most {norms.max():.3g}")
        if norms.std() < 1e-3:
            found.concerns.append("All latents are alike: the run has learned no heterogeneity.")
