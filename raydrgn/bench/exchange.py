"""What workers with a GPU each exchange in a step, counted, and how large a step must be for it.

Processes of this machine's CPUs stand for the workers. They take steps of fixed shapes as GPUs do,
kernel by kernel, so that what is computed and what is sent are those of GPUs. The time of both on
GPUs is not measured but modelled: arithmetic and bytes over rates that are named.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from raydrgn.bench.settings import ExchangeSettings
from raydrgn.bench.step import configs, flop_of
from raydrgn.bench.synthetic_steps import made_up_batch, make_fixed_step
from raydrgn.bench.worker_steps import StepScaling, TimedNetwork, measure
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.recipe import TrainConfig
from raydrgn.training.step import SliceLattice, evaluate_losses

CPU = torch.device("cpu")
ROUND_SECONDS = 0.5

GPU_FLOP_PER_S = 1e14
"""Of a step on one GPU; assumed. ``raydrgn bench step`` measures it where there is one."""

SCALING = 0.9
"""Share of one GPU's rate that each of several is to keep."""


@dataclass(frozen=True, slots=True)
class Link:
    """GPUs in a ring, and its slowest link."""

    name: str
    workers: int
    bytes_per_s: float
    """Each way."""


LINKS = (
    Link("8 GPUs, NVLink 4 (450 GB/s)", 8, 450e9),
    Link("8 GPUs, PCIe 4.0 (25 GB/s)", 8, 25e9),
    Link("64 GPUs, 100 Gb/s between nodes", 64, 12.5e9),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExchangeRates:
    """What was counted and measured."""

    flop_per_particle: float
    gradient_bytes: int
    last_bytes: int
    """Of the gradient that the backward pass gives last, with which no exchange can begin before
    it ends."""

    last_name: str
    """Of its parameter."""

    steps: list[StepScaling]

    def exchange_s(self, link: Link) -> float:
        """Return the time of an exchange in a ring, if nothing hides it."""
        return ring_bytes(self.gradient_bytes, link.workers) / link.bytes_per_s

    def least_batch(self, link: Link) -> float:
        """Return the particles per GPU and step from which on each keeps ``SCALING`` of its rate.

        The exchange then takes at most a ninth of the time of the arithmetic.
        """
        arithmetic_s = self.exchange_s(link) * SCALING / (1 - SCALING)
        return arithmetic_s * GPU_FLOP_PER_S / self.flop_per_particle


def ring_bytes(size: int, workers: int) -> float:
    """Return what each worker of a ring sends to add up a message: 2(n − 1)/n of it."""
    return 2 * (workers - 1) / workers * size


def run(settings: ExchangeSettings) -> ExchangeRates:
    """Take steps on 1, 2, 4, … processes, and count what they compute and send.

    Raises:
        ConfigError: If a setting of the network is not possible.
    """
    model, train = configs(
        settings.assignments,
        width=settings.width,
        layers=settings.layers,
        batch_size=settings.batch_size,
        amp=False,
    )
    step = make_fixed_step(model, train, box=settings.box, device=CPU, is_compiled=False)
    gradients = list(gradients_in_order(model, train, box=settings.box))
    last_name, last_bytes = gradients[-1]
    network = TimedNetwork(
        model=model, train=train, box=settings.box, round_s=ROUND_SECONDS, has_fixed_shapes=True
    )
    return ExchangeRates(
        flop_per_particle=flop_of(step) / train.batch_size,
        gradient_bytes=sum(size for _, size in gradients),
        last_bytes=last_bytes,
        last_name=last_name,
        steps=simulated(network, workers=settings.workers),
    )


def gradients_in_order(
    model: ModelConfig, train: TrainConfig, *, box: int
) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of each parameter in the order in which a step gives their gradients.

    Args:
        model: Network.
        train: Share of points.
        box: Edge of the images in pixels.
    """
    lattice = SliceLattice.of_box(box, device=CPU)
    vae = HeterogeneousVAE(model, box=box, num_pixels=2 * lattice.num_points)
    found: list[torch.Tensor] = []
    for parameter in vae.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(found.append)
    losses = evaluate_losses(
        vae,
        made_up_batch(1, lattice.num_points, CPU),
        lattice,
        noise=torch.zeros(1, model.zdim),
        beta=train.kl_weight(model.zdim),
        points=None,
    )
    losses.total.backward()
    names = {id(parameter): name for name, parameter in vae.named_parameters()}
    for tensor in found:
        yield names[id(tensor)], tensor.nbytes


def simulated(network: TimedNetwork, *, workers: int) -> list[StepScaling]:
    """Return steps on 1, 2, 4, … processes of one thread each, up to some number of workers."""
    with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as folder:
        spawn(_worker, args=(network, workers, folder), nprocs=workers)
        found = json.loads(Path(folder, "steps.json").read_text())
    return [StepScaling(**step) for step in found]


def _worker(rank: int, network: TimedNetwork, workers: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=workers
    )
    steps = measure(network, device=CPU)
    if rank == 0:
        Path(folder, "steps.json").write_text(json.dumps([asdict(step) for step in steps]))
    distributed.destroy_process_group()
