"""What the configuration of a run of cryoDRGN's, from 0.3 to 4, says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_ctf
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.storage import Uri
from raydrgn.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class CryodrgnConfig:
    """A run of ``train_vae``."""

    model: ModelConfig
    box: int
    pixel_size_angstrom: float
    """At the box; 0 if it is not known."""

    mean: float
    sd: float
    """Of the images, by which they were normalised."""

    ind: Uri | None
    """The selection that was trained on, where one was given."""

    source: ParticleSource | None
    """The particles, where they are named."""

    poses: Uri | None
    """File of a pose for each particle, of a run on all of them."""

    inverts: bool
    """Whether images were multiplied by −1."""

    @classmethod
    def of(cls, raw: Mapping[str, Any], root: Uri) -> "CryodrgnConfig":
        """Read the configuration; lattice size is box + 1, ``norm`` is mean and SD.

        Raises:
            RunDirectoryError: If it is not that of ``train_vae``.
        """
        try:
            model, data = raw["model_args"], raw["dataset_args"]
            box = int(raw["lattice_args"]["D"]) - 1
            mean, sd = data["norm"]
            config = _network(model)
        except (KeyError, TypeError, ValueError) as error:
            raise RunDirectoryError(
                f"{root} has a configuration that is neither raydrgn's nor that of cryoDRGN's "
                f"train_vae ({type(error).__name__}: {error})."
            ) from error
        return cls(
            model=config,
            box=box,
            pixel_size_angstrom=_pixel_size(data, root, box),
            mean=float(mean),
            sd=float(sd),
            ind=str(data["ind"]) if data.get("ind") else None,
            source=_source(data),
            poses=_poses_of_all(model, data),
            inverts=bool(data.get("invert_data", True)),
        )


def _network(model: Mapping[str, Any]) -> ModelConfig:
    return ModelConfig(
        zdim=int(model["zdim"]),
        encoder_layers=int(model["qlayers"]),
        encoder_width=int(model["qdim"]),
        decoder_layers=int(model["players"]),
        decoder_width=int(model["pdim"]),
        encoding=model["pe_type"],
        encoding_dim=int(model.get("pe_dim") or 0),
        encoding_sigma=float(model.get("feat_sigma") or 0.5),
        domain=model["domain"],
        activation=model.get("activation") or "relu",
    )


def _source(data: Mapping[str, Any]) -> ParticleSource | None:
    if not data.get("particles"):
        return None
    names = ("poses", "ctf", "ind", "datadir")
    given: dict[str, Any] = {name: str(data[name]) for name in names if data.get(name)}
    return ParticleSource(particles=str(data["particles"]), **given)


def _poses_of_all(model: Mapping[str, Any], data: Mapping[str, Any]) -> Uri | None:
    """Return the file of poses if its rows are the particles: none of a selection or of tilts."""
    if data.get("ind") or model.get("encode_mode") == "tilt" or not data.get("poses"):
        return None
    return str(data["poses"])


def _pixel_size(data: Mapping[str, Any], root: Uri, box: int) -> float:
    """Return the pixel size in the run's ctf.pkl, at the run's box; 0 if it is gone."""
    ctf = data.get("ctf")
    if not ctf:
        return 0.0
    for place in (storage.absolute(ctf), storage.absolute(ctf, base=root)):
        if storage.is_at_hand(place):
            try:
                first = read_ctf(place)[0]
            except InputError:
                return 0.0
            return float(first[0] * first[1] / box)
    return 0.0
