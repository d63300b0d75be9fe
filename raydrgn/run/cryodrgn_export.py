"""A run as cryoDRGN 4 keeps one: the same weights and latents, and its own configuration."""

import logging
import os
from typing import Any

import yaml

from raydrgn.data.restoration import FLAGS, TILT
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.particles import ParticleTable
from raydrgn.io.pixel_sizes import pixel_size_factors
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.sources import to_ctf, to_poses
from raydrgn.io.storage import Uri
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.export_record import ExportRecord
from raydrgn.run.metrics import epoch_rows
from raydrgn.run.reader import RunReader, open_run

log = logging.getLogger(__name__)

CRYODRGN_VERSION = "4.3.0"
"""Version whose layout is written."""

WRITTEN = ("config.yaml", "ctf.pkl", "ind.pkl", "particles.star", "poses.pkl", "run.log")
"""Files of an export beside weights and latents."""


def export_run(root: Uri, out: Uri) -> list[int]:
    """Make a directory that cryoDRGN opens; return the epochs in it.

    Weights and latents are linked, not copied. Poses and CTF are those of the particles trained on,
    a row each; ``ind.pkl`` says which rows of the original file these are.

    Raises:
        RunDirectoryError: If the run is cryoDRGN's own, or has no finished epoch.
        ConfigError: If ``out`` is not on this machine, or holds anything but an earlier export of
            the same run.
    """
    opened = open_run(root)
    epochs = _exported_epochs(opened, root)
    if not storage.is_local(out):
        raise ConfigError(f"-o {out} is not on this machine; cryoDRGN reads local folders only.")
    target = RunDirectory(storage.absolute(out))
    table = opened.particles()
    config = RunConfig.read(opened.files.config)
    _warn_of_corrections(table, config)
    linked = [
        (place(opened.files, epoch), place(target, epoch))
        for epoch in [*epochs, None]
        for place in (RunDirectory.weights, RunDirectory.latents)
        if storage.exists(place(opened.files, epoch))
    ]
    names = [uri.rsplit("/", 1)[-1] for _, uri in linked]
    record = ExportRecord.begin(target.root, opened, [*WRITTEN, *names])
    poses, ctf, ind = (storage.join(target.root, f"{n}.pkl") for n in ("poses", "ctf", "ind"))
    cryodrgn.write_poses(poses, to_poses(table))
    cryodrgn.write_indices(ind, table.column("index"))
    if table.has_ctf:
        cryodrgn.write_ctf(ctf, to_ctf(table))
    particles = storage.join(target.root, "particles.star")
    write_relion(particles, table)  # the original may have others, which were left out
    raw = _configuration(
        config, particles=particles, poses=poses, ctf=ctf if table.has_ctf else None
    )
    storage.write_bytes(target.config, yaml.safe_dump(raw).encode())
    storage.write_bytes(target.log, _losses(opened.files).encode())
    for source, link in linked:
        _link(source, link)
    record.finish(target.root)
    return epochs


def _exported_epochs(opened: RunReader, root: Uri) -> list[int]:
    """Return the epochs of a run of which cryoDRGN can use the weights.

    Raises:
        RunDirectoryError: If the run is of another kind, or there are none.
    """
    if opened.is_foreign:
        raise RunDirectoryError(f"{root} is a run of cryoDRGN; it can be used there as it is.")
    if opened.is_mixture:
        raise RunDirectoryError(
            f"{root} is a mixture of factor analysers, of which cryoDRGN decodes no volumes. Its "
            "latents, z.N.pkl, are files that cryoDRGN reads as they are; make volumes with "
            f"`raydrgn analyze {root}`, and write the particles with `raydrgn export star`."
        )
    epochs = opened.files.epochs()
    if not epochs:
        raise RunDirectoryError(f"{root} has no finished epoch yet.")
    return epochs


def _warn_of_corrections(table: ParticleTable, config: RunConfig) -> None:
    """Warn of what cryoDRGN will not do when it reads the images again; the weights are right."""
    missing = []
    if (pixel_size_factors(table, config.pixel_size_angstrom) != 1).any():
        missing.append("take account of several pixel sizes")
    if config.data.subtract_background:
        missing.append("subtract the background of images that are not normalised")
    if config.data.background_sd is not None:
        missing.append("scale images that are not normalised alike")
    changed = [n for n in (*FLAGS, *TILT) if n in table.table.column_names]
    if any(table.column(name).any() for name in changed):
        missing.append(
            "undo that phases were flipped, images multiplied by the CTF or the beam tilted"
        )
    if missing:
        log.warning(
            "cryoDRGN does not %s: use the exported run for its latents and volumes, and encode "
            "no images with it",
            " or ".join(missing),
        )


def _configuration(
    config: RunConfig, *, particles: Uri, poses: Uri, ctf: Uri | None
) -> dict[str, Any]:
    """Return what cryoDRGN keeps in ``config.yaml``; its lattice has a point more than pixels."""
    model, data, box = config.model, config.data, config.data.box
    command = ["cryodrgn", "train_vae", particles, "--poses", poses, "--zdim", str(model.zdim)]
    return {
        "cmd": command + (["--ctf", ctf] if ctf else []),
        "dataset_args": {
            "particles": particles,
            "poses": poses,
            "ctf": ctf,
            "ind": None,
            "datadir": config.source.datadir,
            "invert_data": data.invert,
            "keepreal": False,
            "norm": [0.0, data.scale],
            "window": data.window,
            "window_r": data.window_radius,
            "do_pose_sgd": False,
        },
        "lattice_args": {"D": box + 1, "extent": 0.5, "ignore_DC": True},
        "model_args": {
            "qlayers": model.encoder_layers,
            "qdim": model.encoder_width,
            "players": model.decoder_layers,
            "pdim": model.decoder_width,
            "zdim": model.zdim,
            "encode_mode": "resid",
            "enc_mask": box // 2,
            "pe_type": model.encoding,
            "pe_dim": model.encoding_dim or None,
            "feat_sigma": model.encoding_sigma,
            "domain": model.domain,
            "activation": model.activation,
            "tilt_params": {"tdim": 1024, "tlayers": 3, "t_emb_dim": 64, "ntilts": 10},
        },
        "seed": config.train.seed,
        "time": "",
        "version": CRYODRGN_VERSION,
    }


def _losses(run: RunDirectory) -> str:
    """Return the lines from which cryoDRGN's analyze takes the loss of each epoch."""
    return "".join(
        f"# =====> Epoch: {row['epoch']} Average gen loss = {row['reconstruction']:.6f}, "
        f"KLD = {row['kl']:.6f}, total loss = {row['total']:.6f}; Finished in 0:00:00\n"
        for row in epoch_rows(run.metrics)
    )


def _link(source: Uri, target: Uri) -> None:
    """Give a local file a second name: a hard link, else a symbolic one; fetch a remote one."""
    if not storage.is_local(source):
        log.info("%s is copied: a file elsewhere cannot be linked", source)
        storage.write_bytes(target, storage.read_bytes(source))
        return
    old, new = storage.local_path(source), storage.local_path(target)
    with storage.explained(target, action="written"):
        new.unlink(missing_ok=True)
        try:
            os.link(old, new)
        except OSError:  # another disk, or one without hard links
            new.symlink_to(old.absolute())
