"""Representative points followed through the epochs of a run, on Ray or in this process.

One task follows a point and holds two of its volumes at a time: no volume is decoded twice, and
none passes through the disk or the network.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydrgn.convergence import criteria as convergence
from raydrgn.convergence.criteria import Agreement, Noise
from raydrgn.convergence.epochs import NAMES, ConvergenceSettings, Followed, Study
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.decoding.volume_sets import Progress
from raydrgn.io import storage
from raydrgn.io.mrc import write_volume
from raydrgn.io.storage import Uri
from raydrgn.remote.fanout import each
from raydrgn.remote.session import Allocation
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.run.weights import DecoderState
from raydrgn.shapes import Float


@dataclass(frozen=True, slots=True)
class _Following:
    """The volumes of a point through the epochs, as work for a task."""

    states: Any
    """Decoders of the epochs, or a reference to them."""

    options: VolumeOptions
    latents: Float[np.ndarray, "epochs points zdim"]
    threads: int | None = None
    folders: tuple[Uri, ...] = ()
    """Where the volumes of each epoch are kept; nowhere if empty."""

    def __call__(self, point: int) -> Followed:
        states: Sequence[DecoderState] = self.states
        if not isinstance(states, list):
            import ray

            states = ray.get(states)
        before: np.ndarray | None = None
        compared: list[Agreement] = []
        signs: list[Noise] = []
        slices = []
        for number, state in enumerate(states):
            decoder = VolumeDecoder(state, self.options, threads=self.threads)
            [volume] = decoder.decode(self.latents[number, [point]])
            if self.folders:
                write_volume(
                    storage.join(self.folders[number], f"vol_{point:03d}.mrc"),
                    volume,
                    pixel_size_angstrom=decoder.pixel_size_angstrom,
                )
            mask = convergence.volume_mask(volume)
            signs.append(convergence.noise(volume, mask))
            slices.append(volume[len(volume) // 2])
            if before is not None:
                compared.append(convergence.agreement(before, volume * mask))
            before = volume * mask
        return Followed(
            np.array([one.correlation for one in compared]),
            np.stack([one.fsc for one in compared]),
            np.array(signs),
            np.stack(slices),
        )


def follow_volumes(
    run: RunReader,
    study: Study,
    settings: ConvergenceSettings,
    folder: ResultFolder,
    *,
    allocation: Allocation | None = None,
    progress: Progress | None = None,
) -> None:
    """Decode and compare the volumes of all points; finished points are kept in the folder."""
    states: Any = [
        run.decoder(epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
        for epoch in study.examined
    ]
    if allocation is not None:
        import ray

        states = ray.put(states)
    work = _Following(
        states=states,
        options=settings.options,
        latents=study.latents,
        threads=allocation.cpus if allocation else None,
        folders=tuple(folder.at(f"vols.{epoch}") for epoch in study.examined)
        if settings.keep_volumes
        else (),
    )
    points = range(len(study.counts))
    found = {k: made for k in points if (made := _read_point(folder, k, study)) is not None}
    missing = [point for point in points if point not in found]
    for done, outcome in enumerate(each(work, missing, allocation), start=1):
        if outcome.error:
            study.failures.append(f"point {NAMES[outcome.item]}: {outcome.error}")
        else:
            found[outcome.item] = outcome.value
            _write_point(folder, outcome.item, study, outcome.value)
        if progress:
            progress("points", done, len(missing))
    study.followed = [found.get(point) for point in points]


def _write_point(folder: ResultFolder, point: int, study: Study, made: Followed) -> None:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {"rows": study.rows[:, point], **made._asdict()}
    np.savez(stream, **arrays)
    storage.write_bytes(folder.at("points", f"{NAMES[point]}.npz"), stream.getvalue())


def _read_point(folder: ResultFolder, point: int, study: Study) -> Followed | None:
    """Return a point that was finished before, of the same particles."""
    name = f"{NAMES[point]}.npz"
    if not folder.has("points", name):
        return None
    content = storage.read_bytes(folder.at("points", name))
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        if not np.array_equal(stored["rows"], study.rows[:, point]):
            return None
        return Followed(*(stored[name] for name in Followed._fields))
