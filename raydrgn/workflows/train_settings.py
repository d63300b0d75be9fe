"""Settings of ``train``, and the run that they ask for."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import ConfigError
from raydrgn.io.particle_source import ParticleSettings, ParticleSource
from raydrgn.remote.resources import worker_range
from raydrgn.settings import Setting, check_bounds
from raydrgn.training.options import CpusPerTrainingProcess, GpusPerTrainingProcess

if TYPE_CHECKING:
    from raydrgn.training.prepare_run import RunRequest


@dataclass(frozen=True, kw_only=True)
class TrainSettings(ParticleSettings):
    """Settings of ``train``; None means the value of the recipe, or of the run that goes on."""

    out: Annotated[str, Setting("Run directory; a path or URL.", flags=("-o", "--out"))]

    particles: Annotated[
        str | None,
        Setting(
            "Particles: .mrcs, .txt, .star, .cs or .parquet; not needed with --resume.",
            is_argument=True,
        ),
    ] = None

    method: Annotated[
        str | None,
        Setting(
            "vae: the variational autoencoder (default). mfa: a mixture of factor analysers, "
            "fitted by expectation maximisation without a network; see docs/mfa.md."
        ),
    ] = None

    zdim: Annotated[int | None, Setting("Dimension of the latent (default: 8).", min=1)] = None

    epochs: Annotated[
        int | None,
        Setting(
            "Passes over all particles (default: 40 for up to 20,000 of them, falling to 20 for "
            "40,000 and more; 50 by --recipe protocol, 7 by --method mfa).",
            flags=("-n", "--epochs", "--passes"),
            min=1,
        ),
    ] = None

    datadir: Annotated[
        str | None,
        Setting(
            "Folder of the stacks that a .star or .cs file names; with --resume, where those of "
            "the run are now.",
            project="datadir",
        ),
    ] = None

    recipe: Annotated[
        str | None,
        Setting(
            "fast (default), or protocol: the published learning rate, batch size, epochs and "
            "network, at all Fourier points."
        ),
    ] = None

    batch_size: Annotated[
        int | None,
        Setting(
            "Particles per step over all workers (default: 16; 8 by --recipe protocol).",
            flags=("-b", "--batch-size"),
            min=1,
        ),
    ] = None

    lr: Annotated[
        float | None,
        Setting(
            "Highest learning rate (default: 0.003·√(128 / decoder width), which is 0.00212 for "
            "the default network; 0.0001 by --recipe protocol).",
            above=0,
        ),
    ] = None

    beta: Annotated[
        float | None, Setting("Weight of the KL divergence (default: 1 / zdim).", min=0)
    ] = None

    load: Annotated[
        str | None,
        Setting(
            "Start from the weights of another run, of raydrgn or cryoDRGN, with the same box and "
            "network (default: random weights).",
            metavar="RUN[:EPOCH]",
        ),
    ] = None

    init: Annotated[
        str | None,
        Setting(
            "Start from a finished run of --method mfa on the same particles, of any box: the "
            "encoder is pre-trained on its latents, and then frozen (docs/mfa.md). The default of "
            "--zdim is then the number of its components, at most 8. Poses stay those of "
            "PARTICLES; --poses-from RUN takes those that it has refined.",
            metavar="RUN",
        ),
    ] = None

    poses_from: Annotated[
        str | None,
        Setting(
            "Use the poses that this run of --method mfa has refined for the same particles.",
            metavar="RUN",
        ),
    ] = None

    enc_layers: Annotated[
        int | None, Setting("Residual layers of the encoder (default: 3).", min=1)
    ] = None
    enc_dim: Annotated[
        int | None,
        Setting(
            "Units of each encoder layer (default: 256; 1024 above 128 px by --recipe protocol).",
            min=1,
        ),
    ] = None
    dec_layers: Annotated[
        int | None, Setting("Residual layers of the decoder (default: 3).", min=1)
    ] = None
    dec_dim: Annotated[
        int | None,
        Setting(
            "Units of each decoder layer (default: 256; 1024 above 128 px by --recipe protocol).",
            min=1,
        ),
    ] = None

    components: Annotated[
        int | None,
        Setting("Dimension of the latent of --method mfa (default: 10).", min=1),
    ] = None

    states: Annotated[
        int | None,
        Setting(
            "States of the mixture prior of the latents, at most, by --method mfa (default: 40).",
            min=1,
        ),
    ] = None

    mask: Annotated[
        str | None,
        Setting(
            "Where there may be density, by --method mfa: auto (default) finds it in the mean, "
            "none is the ball in the box; or a map with values from 0 to 1.",
            metavar="auto|none|MAP",
        ),
    ] = None

    contrast: Annotated[
        bool | None,
        Setting(
            "Estimate the contrast of each image, by --method mfa (default: --contrast).",
            flags=("--contrast/--no-contrast",),
        ),
    ] = None

    null_class: Annotated[
        bool | None,
        Setting(
            "Estimate whether each image shows nothing, by --method mfa (default: --null-class).",
            flags=("--null-class/--no-null-class",),
        ),
    ] = None

    shifts: Annotated[
        bool | None,
        Setting(
            "Refine the shift of each image, by --method mfa (default: --shifts).",
            flags=("--shifts/--no-shifts",),
        ),
    ] = None

    rotations: Annotated[
        bool | None,
        Setting(
            "Refine the orientation of each image, by --method mfa (default: --rotations).",
            flags=("--rotations/--no-rotations",),
        ),
    ] = None

    uninvert_data: Annotated[
        bool,
        Setting(
            "Particles are dark on a bright background (default: bright on a dark one).",
            project="uninvert_data",
        ),
    ] = False

    drop_bad: Annotated[
        bool,
        Setting(
            "Leave out images that are constant or not finite (default: refuse them), and "
            "outliers: images with pixels more than 50 SD from their mean, or three times as "
            "strong as others (default: name them in a warning).",
            project="drop_bad",
        ),
    ] = False

    workers: Annotated[
        int | str | None,
        Setting(
            "Training processes (default: one for each GPU, or one for each node without GPUs); a "
            "range such as 2-8 goes on with fewer when machines are lost, and with more when there "
            "is room.",
            metavar="N[-N]",
        ),
    ] = None

    cpus_per_worker: CpusPerTrainingProcess = None

    gpus_per_worker: GpusPerTrainingProcess = None

    seed: Annotated[
        int | None, Setting("Seed of everything random (default: 0).", project="seed", min=0)
    ] = None

    amp: Annotated[
        bool | None,
        Setting(
            "Matrix products in bfloat16, on GPUs and on CPUs that have units for them (default: "
            "--amp).",
            flags=("--amp/--no-amp",),
        ),
    ] = None

    set: Annotated[
        tuple[str, ...],
        Setting(
            "Any other setting of config.yaml, such as train.points_fraction=0.5; repeatable.",
            metavar="SECTION.FIELD=VALUE",
        ),
    ] = ()

    analyze: Annotated[
        bool,
        Setting("Analyse the last epoch at the end of training, as `raydrgn analyze` does."),
    ] = False

    resume: Annotated[bool, Setting("Go on with the run in the run directory.")] = False

    notify: Annotated[
        str | None,
        Setting("POST a JSON notice to this URL at start, end and failure.", metavar="URL"),
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.workers is not None:
            worker_range(self.workers)
        if self.particles is None:
            needs = {
                "--poses": self.poses,
                "--ctf": self.ctf,
                "--ind": self.ind,
                "--half-size-shifts": self.half_size_shifts,
                "--passthrough": self.passthrough,
                "--poses-from": self.poses_from,
            }
            for option, value in needs.items():
                if value:
                    raise ConfigError(
                        f"{option} belongs to PARTICLES, which are not given; a run that goes on "
                        "has its own."
                    )

    def is_moved(self, source: "ParticleSource") -> bool:
        """Return whether a run goes on with its stacks in another folder."""
        if self.datadir is None:
            return False
        given = self.request().source
        from raydrgn.io import storage

        here = storage.absolute(self.datadir)
        return here != source.datadir and (
            given is None or given.absolute() == replace(source, datadir=here)
        )

    def values(self) -> dict[str, Any]:
        """Return what is given, by the names that it has in config.yaml.

        Raises:
            ConfigError: If an assignment cannot be read.
        """
        from raydrgn.run.config import parse_assignment

        given = {
            "model.zdim": self.zdim,
            "model.encoder_layers": self.enc_layers,
            "model.encoder_width": self.enc_dim,
            "model.decoder_layers": self.dec_layers,
            "model.decoder_width": self.dec_dim,
            "train.epochs": self.epochs,
            "train.batch_size": self.batch_size,
            "train.learning_rate": self.lr,
            "train.beta": self.beta,
            "train.load": self.load,
            "train.init": self.init,
            "train.seed": self.seed,
            "train.amp": self.amp,
            "resources.num_workers": self.workers,
            "resources.cpus": self.cpus_per_worker,
            "resources.gpus": self.gpus_per_worker,
            "mfa.components": self.components,
            "mfa.states": self.states,
            "mfa.mask": self.mask,
            "mfa.contrast": self.contrast,
            "mfa.null_class": self.null_class,
            "mfa.shifts": self.shifts,
            "mfa.rotations": self.rotations,
            "data.invert": False if self.uninvert_data else None,
        }
        values = {name: value for name, value in given.items() if value is not None}
        return values | dict(map(parse_assignment, self.set))

    def request(self) -> "RunRequest":
        """Return what ``raydrgn.training.prepare_run`` makes a run of."""
        from raydrgn.io import storage
        from raydrgn.training.prepare_run import RunRequest

        source = None
        if self.particles is not None:
            source = self.source_of(self.particles)
        return RunRequest(
            root=storage.absolute(self.out),
            source=source,
            method=self.method,
            recipe=self.recipe,
            values=self.values(),
            drop_bad=self.drop_bad,
            poses_from=self.poses_from and storage.absolute(self.poses_from),
        )
