"""What a GPU does, in one run: steps, the whole path, volumes and memory of several networks.

A card may be lent for less time than all of it takes, and may be too small for some of it. So each
figure is logged when it is measured, and one that fails does not end the others.
"""

import logging
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from raydrgn.bench import step, tables, train, volumes
from raydrgn.bench.gpu_rates import LAYERS, GpuRates, NetworkRates
from raydrgn.bench.own_process import in_own_process
from raydrgn.bench.settings import GpuSettings, TrainingSettings
from raydrgn.bench.volumes import DecodingRates
from raydrgn.errors import ClusterError, RaydrgnError
from raydrgn.model.device import busy_gpu, full_gpu, unusable_gpu
from raydrgn.remote.progress import Progress, silent
from raydrgn.remote.sigterm import sigterm_as_interrupt

log = logging.getLogger(__name__)

QUARTER = 0.25
PATH_SECONDS = 20
"""Time of an epoch of the whole path, beside which what ends an epoch is short."""

FROM_HOST = "resources.shard_store=host"
CRYODRGN_EPOCHS = (1, 3)
"""Lengths of two runs of cryoDRGN, whose difference is epochs alone."""

Way = Callable[[], object]
"""Measures a figure."""


def rates_of_gpu() -> GpuRates:
    """Name the GPU of this machine, of which nothing is measured yet.

    Raises:
        ClusterError: If there is none that torch can use.
    """
    problem = unusable_gpu()
    if problem is not None:
        raise ClusterError(
            f"There is no GPU to measure here: {problem[0]}; `raydrgn bench step` measures a CPU."
        )
    return GpuRates(
        device=step.device_name(torch.device("cuda")),
        driver=driver_version(),
        torch=f"{torch.__version__}, CUDA {torch.version.cuda}",
        date=datetime.now(UTC).date().isoformat(),
    )


def run(settings: GpuSettings, rates: GpuRates, *, progress: Progress = silent) -> None:
    """Measure every network on every box, on the GPU of this machine.

    Args:
        settings: Boxes, widths, batch, and particles of the whole path.
        rates: Takes each figure as soon as it is measured, so that an interrupt loses none.
        progress: Called after each figure.

    Raises:
        KeyboardInterrupt: At Ctrl-C and SIGTERM.
    """
    with sigterm_as_interrupt():
        measure(settings, rates.networks, device=torch.device("cuda"), progress=progress)


def measure(
    settings: GpuSettings,
    networks: list[NetworkRates],
    *,
    device: torch.device,
    with_path: bool = True,
    progress: Progress = silent,
) -> None:
    """Measure each network on each box, and log each figure.

    Args:
        settings: Boxes, widths, batch, and particles of the whole path.
        networks: Takes the rates of each network, and these each figure, when it is measured.
        device: Where to compute.
        with_path: Whether to train through Ray, where it is installed, and with cryoDRGN.
        progress: Called after each figure.
    """
    if with_path and find_spec("ray") is None:
        log.warning("Ray is not installed: the whole path and cryoDRGN are not measured.")
        with_path = False
    num_networks, done = len(settings.boxes) * len(settings.widths), 0
    for box in settings.boxes:
        with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as folder:
            for width in settings.widths:
                found = NetworkRates(box=box, width=width)
                networks.append(found)
                ways = _bare_figures(settings, found, device)
                if with_path:
                    ways |= _path_figures(settings, found, folder)
                for name, way in ways.items():
                    _add(found, name, way)
                    done += 1
                    progress("measuring", done, num_networks * len(ways), unit="figures")


def _bare_figures(
    settings: GpuSettings, found: NetworkRates, device: torch.device
) -> dict[str, Way]:
    """Return how steps and volumes of a network are measured, without workers.

    On a GPU in processes of their own: this one has none of it, as in a compute mode of one process
    at a time the workers must have it, and an error of CUDA, after which a process can do no more
    there, spoils one figure alone.
    """
    figures: dict[str, Way] = {
        "all_points": partial(_step_rate, settings, found, device, 1.0),
        "quarter": partial(_step_rate, settings, found, device, QUARTER),
        "volumes": partial(_volume_rates, found, device),
    }
    if device.type == "cpu":
        return figures
    return {name: partial(in_own_process, way) for name, way in figures.items()}


def _path_figures(settings: GpuSettings, found: NetworkRates, folder: str) -> dict[str, Way]:
    """Return how the whole path is measured, and cryoDRGN on the same particles."""
    of_path = TrainingSettings(
        box=found.box,
        width=found.width,
        layers=LAYERS,
        batch_size=settings.batch_size,
        num_particles=settings.num_particles,
    )
    from_host = replace(of_path, assignments=(FROM_HOST,))
    return {
        "path_per_s": partial(_path_rate, of_path, found, folder),
        "from_host_per_s": partial(_path_rate, from_host, found, folder),
        "cryodrgn_per_s": partial(cryodrgn_rate, of_path, folder),
    }


def _add(found: NetworkRates, name: str, way: Way) -> None:
    """Measure a figure, or note why that is not possible; log either."""
    try:
        setattr(found, name, way())
    except Exception as error:  # whatever it is, the other figures can be measured
        known = failure_in_words(error)
        found.failures[name] = known or _first_line(error)
        log.warning("%s: %s", found.title, _in_one_line(found, name), exc_info=known is None)
    else:
        if line := _in_one_line(found, name):
            log.info("%s: %s", found.title, line)


def _in_one_line(found: NetworkRates, name: str) -> str:
    return "; ".join(" ".join(row).strip() for row in tables.figure_rows(found, name))


def failure_in_words(error: Exception) -> str | None:
    """Return why a figure could not be measured; None for a defect, which has a traceback."""
    if isinstance(error, RaydrgnError):
        return str(error)
    held = full_gpu(error)
    if held is not None:
        return f"the memory of the GPU is full. {held}".rstrip(". ")
    return busy_gpu(error)


def _first_line(error: Exception) -> str:
    """Return the kind and the message of an error, also of one that is the text of a traceback."""
    lines = [line for line in str(error).splitlines() if line[:1].strip()]
    text = next((line for line in lines if not line.startswith("Traceback")), "no message")
    return f"{type(error).__name__}: {text}"


def _step_rate(
    settings: GpuSettings, found: NetworkRates, device: torch.device, fraction: float
) -> step.StepRate:
    model, recipe = step.configs(
        [f"train.points_fraction={fraction}"],
        width=found.width,
        layers=LAYERS,
        batch_size=settings.batch_size,
        amp=True,
    )
    return step.measure(
        model,
        recipe,
        box=found.box,
        device=device,
        with_compiled=device.type == "cuda",
        with_fused=fraction == 1.0,  # once: each compilation takes up to a minute
    )


def _volume_rates(found: NetworkRates, device: torch.device) -> DecodingRates:
    state = volumes.decoder_state(found.box, width=found.width, layers=LAYERS)
    return volumes.measure(state, device=device)


def _path_rate(settings: TrainingSettings, found: NetworkRates, folder: str) -> float:
    if found.all_points is None:
        raise RaydrgnError("How long an epoch must be is not known without the rate of the step.")
    num_particles = PATH_SECONDS * found.all_points.best_per_s
    times = math.ceil(num_particles / settings.num_particles)
    return train.path_rate(settings, folder, times=times)


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
