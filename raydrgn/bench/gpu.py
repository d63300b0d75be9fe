"""What a GPU does, in one run: steps, the whole path, volumes and memory of several networks."""

import logging
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from raydrgn.bench import step, train, volumes
from raydrgn.bench.settings import GpuSettings, TrainingSettings
from raydrgn.errors import ClusterError
from raydrgn.model.device import free_gpu, unusable_gpu
from raydrgn.remote.progress import Progress, silent

log = logging.getLogger(__name__)

LAYERS = 3
QUARTER = 0.25
PATH_SECONDS = 20
"""Time of an epoch of the whole path, beside which what ends an epoch is short."""

FROM_HOST = "resources.shard_store=host"
CRYODRGN_EPOCHS = (1, 3)
"""Lengths of two runs of cryoDRGN, whose difference is epochs alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkRates:
    """What a network of some size does on images of some size."""

    box: int
    width: int
    all_points: step.StepRate
    quarter: step.StepRate
    """With a quarter of the points."""

    volumes: volumes.DecodingRates
    path_per_s: float | None = None
    """Particles per second of the whole path through Ray, with all points; None if not measured."""

    from_host_per_s: float | None = None
    """The same with particles that stay in the host's memory."""

    cryodrgn_per_s: float | None = None
    """Particles per second of cryoDRGN on the same data; None where it is not installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuRates:
    """What was measured, and on what."""

    device: str
    driver: str
    torch: str
    date: str
    networks: list[NetworkRates]


def run(settings: GpuSettings, *, progress: Progress = silent) -> GpuRates:
    """Measure every network on every box, on the GPU of this machine.

    Raises:
        ClusterError: If there is none that torch can use.
    """
    problem = unusable_gpu()
    if problem is not None:
        raise ClusterError(
            f"There is no GPU to measure here: {problem[0]}; `raydrgn bench step` measures a CPU."
        )
    device = torch.device("cuda")
    return GpuRates(
        device=step.device_name(device),
        driver=driver_version(),
        torch=f"{torch.__version__}, CUDA {torch.version.cuda}",
        date=datetime.now(UTC).date().isoformat(),
        networks=list(measure(settings, device=device, progress=progress)),
    )


def measure(
    settings: GpuSettings,
    *,
    device: torch.device,
    with_path: bool = True,
    progress: Progress = silent,
) -> Iterator[NetworkRates]:
    """Yield the rates of each network on each box.

    Args:
        settings: Boxes, widths, batch, and particles of the whole path.
        device: Where to compute.
        with_path: Whether to train through Ray, and with cryoDRGN where it is installed.
        progress: Called after each network.
    """
    total, done = len(settings.boxes) * len(settings.widths), 0
    for box in settings.boxes:
        with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as folder:
            for width in settings.widths:
                found = _bare_rates(settings, box, width, device)
                path = from_host = cryodrgn = None
                if with_path:
                    of_path = TrainingSettings(
                        box=box,
                        width=width,
                        layers=LAYERS,
                        batch_size=settings.batch_size,
                        num_particles=settings.num_particles,
                    )
                    free_gpu()
                    long = PATH_SECONDS * found["all_points"].best_per_s
                    times = math.ceil(long / settings.num_particles)
                    path = train.path_rate(of_path, folder, times=times)
                    host = replace(of_path, assignments=(FROM_HOST,))
                    from_host = train.path_rate(host, folder, times=times)
                    cryodrgn = cryodrgn_rate(of_path, folder)
                done += 1
                progress("measuring", done, total, unit="networks")
                yield NetworkRates(
                    box=box,
                    width=width,
                    path_per_s=path,
                    from_host_per_s=from_host,
                    cryodrgn_per_s=cryodrgn,
                    **found,
                )


def _bare_rates(
    settings: GpuSettings, box: int, width: int, device: torch.device
) -> dict[str, Any]:
    """Return the rates of steps and volumes, in this process."""
    steps = {}
    for name, fraction in (("all_points", 1.0), ("quarter", QUARTER)):
        model, recipe = step.configs(
            [f"train.points_fraction={fraction}"],
            width=width,
            layers=LAYERS,
            batch_size=settings.batch_size,
            amp=True,
        )
        steps[name] = step.measure(
            model, recipe, box=box, device=device, with_compiled=device.type == "cuda"
        )
    state = volumes.decoder_state(box, width=width, layers=LAYERS)
    return {**steps, "volumes": volumes.measure(state, device=device)}


def cryodrgn_rate(settings: TrainingSettings, folder: str) -> float | None:
    """Return the particles per second of cryoDRGN on simulated particles, None without it.

    Two runs that differ in their epochs alone are timed, so that its start does not count.
    """
    program = shutil.which("cryodrgn")
    if program is None:
        return None
    seconds = []
    for epochs in CRYODRGN_EPOCHS:
        size = [("dim", settings.width), ("layers", settings.layers)]
        network = [f"--{part}-{name}={n}" for part in ("enc", "dec") for name, n in size]
        command = [program, "train_vae", "particles.mrcs", "--poses=poses.pkl", "--ctf=ctf.pkl"]
        command += ["--zdim=8", f"-n{epochs}", f"-b{settings.batch_size}", "-ocryodrgn", *network]
        began = time.perf_counter()
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
        shutil.rmtree(Path(folder, "cryodrgn"), ignore_errors=True)
        if ended.returncode:
            reason = (ended.stderr.strip() or "no message").splitlines()[-1]
            log.warning("cryodrgn has failed (%s) and is not compared", reason)
            return None
    more = CRYODRGN_EPOCHS[1] - CRYODRGN_EPOCHS[0]
    return more * settings.num_particles / max(seconds[1] - seconds[0], 1e-6)


def driver_version() -> str:
    """Return the version of NVIDIA's driver, if it can be asked for."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "not known"
    answer = subprocess.run(
        [program, "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    return answer[0] if answer else "not known"
