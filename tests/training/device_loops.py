"""Loops of workers on any device, alone or in a group whose members share one GPU."""

import torch
from torch import distributed, multiprocessing

from plain import all_weights, step_losses
from raydrgn.data.ingest import prepared_blocks
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import Sharing
from raydrgn.run.writer import RunWriter
from raydrgn.training.assembly import batch_plan, make_loop, own_store
from raydrgn.training.collectives import WorkerGroup
from raydrgn.training.memory import Room
from raydrgn.training.sinks import DirectSink


def made(run, device, *, rank=0, world=1, on_progress=None):
    """Return the loop and the plan of a worker on a device, which all workers share."""
    config = run.config
    room = Room.of(config, device, Sharing.of_worker(gpus=1 / world, on_host=world))
    plan = batch_plan(config, len(run.table), rank=rank, world=world)
    table = run.table.slice_rows(*plan.rows)
    blocks = prepared_blocks(table, config.data)
    options = {"run": run.root, "room": room}
    store, _ = own_store(config, plan, device, blocks, progress=lambda done: None, **options)
    shard = ResidentShard(
        table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=device
    )
    sink = DirectSink(RunWriter(run.root, num_particles=len(run.table)), on_progress=on_progress)
    return make_loop(config, plan, shard, device, sink, room=room), plan


def losses(parts, count=50):
    """Take some steps; return the losses of each."""
    return step_losses(*parts, count)


def parameters(parts):
    """Return all weights, one after the other."""
    loop, _ = parts
    return all_weights(loop._vae)


def fit_together(run, device, folder, *, world=2, count=20):
    """Take some steps by workers that share a device; return weights and losses of each."""
    multiprocessing.spawn(_worker, args=(world, run, device, str(folder), count), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def _worker(rank, world, run, device, folder, count):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world
    )
    parts = made(run, device, rank=rank, world=world)
    found = losses(parts, count)
    torch.save((parameters(parts), found), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def exchange_alone(device, backend, folder):
    """Let a group of one worker exchange what workers of a fit do."""
    multiprocessing.spawn(_exchange_alone, args=(device, backend, str(folder)), nprocs=1)


def _exchange_alone(rank, device, backend, folder):
    distributed.init_process_group(
        backend, init_method=f"file://{folder}/group", rank=rank, world_size=1
    )
    group = WorkerGroup()
    numbers = [torch.arange(3.0, dtype=dtype, device=device) for dtype in (None, torch.float64)]
    group.add_up(numbers)
    assert [tensor.tolist() for tensor in numbers] == [[0, 1, 2]] * 2
    assert group.from_first({"epoch": 3}) == {"epoch": 3}
    assert group.all_of([4, None]) == [[4, None]]
    distributed.destroy_process_group()
