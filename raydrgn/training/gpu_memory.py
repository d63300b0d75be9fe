"""What a training step needs of a GPU's memory, what the card has, and who else holds some."""

import os
import shutil
import subprocess
from dataclasses import dataclass

import torch

from raydrgn.data.store import ALONE, Sharing
from raydrgn.model.vae import HeterogeneousVAE

KEPT_FREE = 0.1
"""Of the free memory: for what libraries take, and for gaps between tensors."""

NUMBERS_PER_POINT = 24
"""Of single precision, of one image at one point: coefficients, CTF, encoder's input, products."""

CONTEXT_BYTES = 1e9
"""What a process takes of a card beside its tensors, if the driver does not tell."""

QUERY = (
    "--query-compute-apps=gpu_uuid,pid,process_name,used_memory",
    "--format=csv,noheader,nounits",
)


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of a training step, counted from shapes."""

    network: int
    """Parameters, their gradients, both moments, what several workers send of them, and matrices
    as products take them."""

    per_particle: int
    """What the backward pass needs of the forward pass of one particle, and what both hold."""

    @classmethod
    def of(
        cls,
        vae: HeterogeneousVAE,
        *,
        num_points: int,
        num_compared: int,
        uses_amp: bool,
        num_workers: int = 1,
    ) -> "StepMemory":
        """Count what a network needs.

        Args:
            vae: Network.
            num_points: Points of the half disc.
            num_compared: Points at which slices are compared.
            uses_amp: Whether operands of matrix products have two bytes.
            num_workers: Workers, of which several send all gradients in one message.
        """
        config = vae.config
        size = 2 if uses_amp else 4
        numbers = sum(parameter.numel() for parameter in vae.parameters())
        inputs = vae.decoder.num_features
        evaluated = num_compared * (2 if config.domain == "hartley" else 1)
        # of each point: features; what each layer was given, and the gradients of two at a time
        kept = size * (inputs + config.decoder_width * (config.decoder_layers + 3))
        of_image = 4 * NUMBERS_PER_POINT * num_points
        of_encoder = size * config.encoder_width * (config.encoder_layers + 3)
        of_parameter = 16 if num_workers == 1 else 20
        ones = sum(buffer.nbytes for buffer in vae.buffers())
        operands = 2 * numbers if uses_amp else ones  # in half precision, or W + 1
        network = of_parameter * numbers + ones + operands
        return cls(network, evaluated * kept + of_image + of_encoder)

    def parts(self, batch: int, *, free: float) -> int:
        """Return into how many parts a batch is cut so that each fits; one particle at least.

        Args:
            batch: Particles.
            free: Bytes that may be taken, the network's included.
        """
        return -(-batch // self.largest_part(batch, free=free))

    def largest_part(self, batch: int, *, free: float) -> int:
        """Return how many particles of a batch fit at a time, one at least."""
        room = (1 - KEPT_FREE) * free - self.network
        return min(max(int(room // self.per_particle), 1), batch)

    def in_words(self, batch: int, parts: int) -> str:
        """Return what a step needs."""
        part = -(-batch // parts)
        need = self.network + part * self.per_particle
        cut = f", in {parts} parts" if parts > 1 else ""
        return (
            f"a step needs about {need / 1e9:.2f} GB of the GPU: {self.network / 1e9:.2f} GB for "
            f"network and optimiser, {self.per_particle / 1e6:.0f} MB for each of {part} "
            f"particles{cut}"
        )


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a card."""

    pid: int
    name: str
    used: float
    """Bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A GPU, and what of its memory is free."""

    name: str
    total: float
    """Bytes."""

    free: float
    """Bytes that this worker may still take, what torch has set aside for it included."""

    used_by_others: float
    """Bytes that other processes hold; 0 if hardly any, or no more than workers on it may hold."""

    processes: tuple[Process, ...] = ()
    """Other processes as far as the driver names them: not those of other containers.

    None if it does not name this one, as where a container has numbers of its own: this process
    might then be one of them.
    """

    def in_words(self) -> str:
        """Return how much is free, and who holds the rest."""
        text = f"{self.name} has {self.free / 1e9:.1f} of {self.total / 1e9:.1f} GB free"
        if not self.used_by_others:
            return text
        named = [f"process {p.pid} ({p.name}) holds {p.used / 1e9:.1f} GB" for p in self.processes]
        others = f"other processes hold {self.used_by_others / 1e9:.1f} GB"
        return f"{text}; {', '.join(named) or others}"


def card_of(device: torch.device, sharing: Sharing = ALONE) -> Card:
    """Return a CUDA device as it is now, for a worker that may share it."""
    free, total = torch.cuda.mem_get_info(device)
    properties = torch.cuda.get_device_properties(device)
    reserved = torch.cuda.memory_reserved(device)
    unused = reserved - torch.cuda.memory_allocated(device)
    mine, of_workers = reserved + CONTEXT_BYTES, (1 - sharing.of_gpu) * total
    others: tuple[Process, ...] = ()
    if total - free - mine > of_workers:
        named = processes_of(str(properties.uuid))
        if own := [process.used for process in named if process.pid == os.getpid()]:
            mine = max(mine, *own)  # with what NCCL takes
            others = tuple(process for process in named if process.pid != os.getpid())
    used_by_others = total - free - mine
    is_shared = used_by_others > of_workers
    return Card(
        name=properties.name,
        total=total,
        free=sharing.of_gpu * free + unused,
        used_by_others=used_by_others if is_shared else 0.0,
        processes=others if is_shared else (),
    )


def processes_of(card: str) -> tuple[Process, ...]:
    """Return the processes on a card, by its identifier, as far as the driver names them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        answer = subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: not text
        return ()
    found = []
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < len(("gpu_uuid", "pid", "process_name", "used_memory")):
            continue  # a message
        owner, pid, *name, used = parts
        if card in owner and pid.isdecimal() and used.isdecimal():
            found.append(Process(int(pid), ", ".join(name), 2**20 * float(used)))
    return tuple(found)


def too_small_message(memory: StepMemory, card: Card) -> str:
    """Return what to do where not even one particle at a time fits."""
    need = memory.network + memory.per_particle
    return (
        f"Training ran out of memory on the GPU. {card.in_words()}. One particle at a time needs "
        f"about {need / 1e9:.2f} GB, of which network and optimiser {memory.network / 1e9:.2f} GB: "
        "use a smaller network (model.decoder_width), or --set train.points_fraction=0.1, which "
        "compares fewer Fourier points in each step; both are settings of a new run, with another "
        "-o. Where other processes hold the memory, end them, or compute elsewhere: "
        "--gpus-per-worker 0 uses CPUs."
    )
