"""Values of the particles of an epoch that conditions can name, each read when it is needed."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raydrgn.clustering.embedding import principal_components
from raydrgn.io.particles import ParticleTable
from raydrgn.mfa.particles import COLUMNS as ESTIMATES
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.run.latents_file import LatentSource
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

Values = Float[np.ndarray, " n"]
Maker = Callable[[], np.ndarray]


class ParticleValues(Mapping[str, Any]):
    """Columns by name, one value per particle, made when they are first asked for."""

    def __init__(self, makers: Mapping[str, Maker]) -> None:
        self._makers = dict(makers)
        self._made: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> Values:
        """Return a column in double precision."""
        if name not in self._made:
            self._made[name] = np.asarray(self._makers[name](), dtype=np.float64)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def particle_values(
    source: LatentSource,
    epoch: int | None,
    z: Float[np.ndarray, "n zdim"],
    numbers: Int[np.ndarray, " n"],
    labels: Mapping[str, Maker],
) -> ParticleValues:
    """Return what is known of each particle of an epoch.

    ``z_norm`` is |z|, ``z_score`` how many SD it is above the mean, ``z1`` … the latent, ``pc1`` …
    its principal components, ``umap1`` and ``umap2`` the UMAP of ``analyze``, ``original`` and
    ``particle`` the number in the original set and the row. A run of raydrgn's adds the columns of
    its particles (``defocus_u_angstrom``), and one of factor analysers what it has estimated
    (``null_probability``).

    Args:
        source: The run or the file of latents.
        epoch: Its epoch.
        z: All latents.
        numbers: Of the particles in the original set.
        labels: Clusters by their names, such as ``cluster``.
    """
    zdim = z.shape[1]
    norm = np.linalg.norm(z.astype(np.float64), axis=1)
    makers: dict[str, Maker] = dict(labels)
    makers |= {
        "z_norm": lambda: norm,
        "z_score": lambda: (norm - norm.mean()) / max(float(norm.std()), 1e-30),
        "umap1": partial(_umap, source, epoch, len(z), 0),
        "umap2": partial(_umap, source, epoch, len(z), 1),
        **{f"z{k + 1}": partial(z.__getitem__, (slice(None), k)) for k in range(zdim)},
        **{f"pc{k + 1}": partial(_component, z, k) for k in range(zdim)},
        "original": lambda: numbers,
        "particle": lambda: np.arange(len(z)),
    }
    if isinstance(source, RunReader) and not source.is_foreign:
        if source.model is None:
            makers |= {name: partial(_estimate, source, epoch, name) for name in ESTIMATES}
        table = source.particles()
        makers |= {n: partial(table.column, n) for n in _numeric(table) if n not in makers}
    return ParticleValues(makers)


def _umap(source: LatentSource, epoch: int | None, count: int, axis: int) -> Values:
    return AnalysisResults(source, epoch).require_umap(count)[:, axis].astype(np.float64)


def _component(z: Float[np.ndarray, "n zdim"], component: int) -> Values:
    return np.asarray(principal_components(z).coordinates[:, component])


def _estimate(source: RunReader, epoch: int | None, name: str) -> np.ndarray:
    return source.estimates(epoch)[name]


def _numeric(table: ParticleTable) -> list[str]:
    """Return the columns of numbers or truth values; ``index`` is called ``original``."""
    kinds = {field.name: field.type for field in table.table.schema}
    return [
        name
        for name, kind in kinds.items()
        if (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))
        and name not in ("index", "uid")
    ]
