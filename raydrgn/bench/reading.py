"""Reading a stack from a store, beside what the store itself gives.

The limit is one plain request for the whole object, by another program than the reader. Both are
measured in one process, in turn, since the speed of stores and networks drifts.
"""

import urllib.request
from dataclasses import dataclass
from statistics import median
from uuid import uuid4

from raydrgn.bench import prepare
from raydrgn.bench.prepare import ROUNDS, PreparationRates, made_up_stack, timed
from raydrgn.bench.settings import PreparationSettings
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.errors import ConfigError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.io.uri import protocol_of

CHUNK_BYTES = 1 << 20
URL_SECONDS = 3600  # for which the address of the plain request is valid


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingRates:
    """MB per second of reading one stack; medians over rounds."""

    title: str
    """What was timed."""

    megabytes: float
    """Size of the stack."""

    reader: float
    """By raydrgn, in the ranges in which images are read."""

    plain: float
    """By one plain request for the whole object."""

    share: float
    """Of the plain request, median of the rounds' ratios."""


def run_prepare(settings: PreparationSettings) -> PreparationRates | ReadingRates:
    """Time reading from a store where the folder is one, else downsampling and back-projection.

    Raises:
        ConfigError: If the store gives no address for a plain request.
    """
    if settings.folder is not None and not storage.is_local(settings.folder):
        return run(settings, settings.folder)
    return prepare.run(settings)


def run(settings: PreparationSettings, folder: Uri) -> ReadingRates:
    """Write a stack of noise into a folder of a store, time reading it, and delete it.

    Raises:
        ConfigError: If the store gives no address for a plain request.
    """
    if protocol_of(folder) not in ("s3", "s3a"):
        raise ConfigError(f"--folder {folder} is not on S3; give a local folder or an s3:// URL.")
    uri = storage.join(folder, f"raydrgn-bench-{uuid4().hex}.mrcs")
    try:
        table = made_up_stack(uri, settings.box, settings.num_particles)
        size = storage.file_size(uri)
        source = ImageSource.as_stored(table)
        fs, path = storage.filesystem(uri)
        address = fs.sign(path, expiration=URL_SECONDS)
        reader, plain = [], []
        for _ in range(ROUNDS):
            plain.append(1e-6 * size / timed(lambda: _get(address)))
            reader.append(1e-6 * size / timed(lambda: _read(source)))
    finally:
        storage.remove(uri)
    return ReadingRates(
        title=f"reading {settings.num_particles:,} images of {settings.box} px",
        megabytes=1e-6 * size,
        reader=median(reader),
        plain=median(plain),
        share=median(r / p for r, p in zip(reader, plain, strict=True)),
    )


def _read(source: ImageSource) -> None:
    for ends in block_ends(0, len(source.slices), box=source.headers[0].shape[2]):
        source.part(*ends).read()


def _get(address: str) -> None:
    with urllib.request.urlopen(address) as answer:
        while answer.read(CHUNK_BYTES):
            pass
