"""Training by a group of processes that exchange gradients, without Ray."""

import itertools
import json
import tempfile
from pathlib import Path

import torch
from torch import distributed

from plain import assemble
from processes import run_group
from raydrgn.data.shard import ResidentShard
from raydrgn.run.directory import Position
from raydrgn.training import reduction
from raydrgn.training.assembly import resume
from raydrgn.training.prepare_run import PreparedRun
from raydrgn.training.sinks import DirectSink


class GroupSink(DirectSink):
    """Lets rank 0 write the latents of all, since a run has one writer."""

    def save_latents(self, epoch, start, mean, logvar):
        parts = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, (epoch, start, mean, logvar))
        if distributed.get_rank() == 0:
            for part in parts:
                super().save_latents(*part)


class RecordingShard(ResidentShard):
    """Keeps the rows of all batches, a list for each sequence of batches."""

    def batches(self, selections):
        self.sequences = [*getattr(self, "sequences", []), []]
        selections = list(selections)
        for rows, batch in zip(selections, super().batches(selections), strict=True):
            self.sequences[-1].append(rows)
            yield batch


def train_group(
    run: PreparedRun, world: int, *, stop_after: Position | None = None
) -> list[list[list[int]]]:
    """Train a run with some processes from its latest checkpoint to the end, or to a step.

    Returns:
        For each epoch and step, the table rows that the workers took.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_group(_worker, world, run, stop_after, folder, world=world)
        workers = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world)]
    return [
        [sorted(itertools.chain(*parts)) for parts in zip(*epochs, strict=True)]
        for epochs in zip(*workers, strict=True)
    ]


def _worker(rank: int, world: int, run: PreparedRun, stop_after: Position | None, folder: str):
    torch.set_num_threads(1)
    reduction.REDUCE_SECONDS = 0.0  # a reduction, and a row of metrics, after every step
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world
    )
    parts = assemble(
        run,
        on_progress=lambda p: stop_after is not None and (p.epoch, p.step) >= stop_after,
        sink_class=GroupSink,
        shard_class=RecordingShard,
        rank=rank,
        world=world,
    )
    start = resume(
        parts.loop,
        run.config,
        parts.plan,
        writer=parts.writer,
        call=lambda method, *arguments: method(*arguments),
        note=print,
    )
    parts.loop.run(start)
    first = parts.plan.rows[0]
    epochs = parts.shard.sequences[::2]  # after every epoch, all particles are encoded
    taken = [[(rows + first).tolist() for rows in steps] for steps in epochs]
    Path(folder, f"{rank}.json").write_text(json.dumps(taken))
    distributed.destroy_process_group()
