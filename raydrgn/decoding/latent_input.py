"""Latents that a user gives: a file of them, particles, or one in full."""

import io

import numpy as np

from raydrgn.decoding.pool import VolumeRequest
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.arrays import read_array
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.mrc import volume_name
from raydrgn.io.storage import Uri
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float
from raydrgn.wording import counted


def choose_latents(
    run: RunReader,
    epoch: int | None,
    *,
    z_file: Uri | None = None,
    particles: str | None = None,
    z: str | None = None,
) -> Float[np.ndarray, "k zdim"]:
    """Return the latents of a file, of particles, or of one given in full.

    Raises:
        ConfigError: If not exactly one of the three is given, or it cannot be read as numbers.
        InputError: If the file does not contain latents of the run's dimension.
    """
    if sum(value is not None for value in (z_file, particles, z)) != 1:
        raise ConfigError("Choose the latents with one of --z-file, --particles and -z.")
    if particles is not None:
        return _of_particles(run, epoch, particles)
    if z_file is not None:
        return latents_of_file(run, z_file)
    latents = np.array([_numbers(z or "", float, "-z")])
    if not np.isfinite(latents).all():
        raise ConfigError(f"-z takes finite numbers, got {z!r}.")
    return _of_run(run, latents, where="-z")


def latents_of_file(run: RunReader, uri: Uri) -> Float[np.ndarray, "k zdim"]:
    """Return the latents of a file, which are of a run's dimension.

    Raises:
        InputError: If the file does not contain such latents.
    """
    return _of_run(run, read_latent_table(uri), where=uri)


def _of_run(
    run: RunReader, latents: Float[np.ndarray, "k zdim"], *, where: str
) -> Float[np.ndarray, "k zdim"]:
    if latents.shape[1] != run.zdim:
        raise InputError(
            f"{where} has latents of {counted(latents.shape[1], 'dimension')}, but the run's zdim "
            f"is {run.zdim}."
        )
    with np.errstate(over="ignore"):
        single = latents.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(single).all(axis=1))
    if bad.size:
        raise InputError(
            f"{where} has a latent with a value that is not finite in single precision, the first "
            f"in row {bad[0]} (from 0)."
        )
    return single


def _of_particles(run: RunReader, epoch: int | None, text: str) -> Float[np.ndarray, "k zdim"]:
    latents = run.latents(epoch)
    rows = _numbers(text, int, "--particles")
    if not rows:
        raise ConfigError("--particles contains no number.")
    outside = [row for row in rows if not 0 <= row < len(latents)]
    if outside:
        raise ConfigError(
            f"--particles contains {outside[0]}, but the run has particles 0 to {len(latents) - 1}."
        )
    return latents[np.array(rows, dtype=np.int64)]


def _numbers(text: str, kind: type[int] | type[float], option: str) -> list[float]:
    try:
        return [kind(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigError(
            f"{option} takes numbers with commas between them, got {text!r}."
        ) from error


def read_latent_table(uri: Uri) -> Float[np.ndarray, "k zdim"]:
    """Read latents from text (one per line), ``.npy`` or cryoDRGN's pickle.

    Raises:
        InputError: If there is no table of finite numbers.
    """
    suffix = suffix_of(uri)
    try:
        if suffix == ".pkl":
            found = cryodrgn.read_latents(uri)[0]
        elif suffix == ".npy":
            found = read_array(uri, wanted="an array of latents (.npy)")
        else:
            text = storage.read_bytes(uri).decode().replace(",", " ")
            lines = [line for line in text.splitlines() if line.split("#")[0].strip()]
            found = np.loadtxt(lines, ndmin=2) if lines else np.empty(0)
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{uri} does not contain latents: {error}.") from error
    if found.ndim and not len(found):
        raise InputError(f"{uri} has no rows; one latent per row is expected.")
    is_table = found.ndim == 2 and found.dtype.kind in "fiu"
    if not is_table or not np.isfinite(found).all():
        raise InputError(f"{uri} should contain a table of finite numbers, one latent per row.")
    return found


def latent_titles(count: int, *, particles: str | None) -> list[str]:
    """Return what the volumes of latents are called: their particles, where these were given."""
    if particles is None:
        return [""] * count
    return [f"particle {row:.0f}" for row in _numbers(particles, int, "--particles")]


def write_latents(
    folder: Uri, latents: Float[np.ndarray, "k zdim"], *, crop: int | None = None
) -> list[VolumeRequest]:
    """Write ``z_values.txt`` into a folder, and return a request for the volume of each latent."""
    folder = storage.absolute(folder)  # workers of a cluster are in other folders
    text = io.StringIO()
    np.savetxt(text, latents)
    storage.write_bytes(storage.join(folder, "z_values.txt"), text.getvalue().encode())
    return [
        VolumeRequest(tuple(map(float, z)), storage.join(folder, volume_name(number)), crop)
        for number, z in enumerate(latents)
    ]
