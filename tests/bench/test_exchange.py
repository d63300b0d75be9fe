"""What workers of fixed steps exchange: counted on processes that stand for GPUs."""

import pytest
import torch

from raydrgn.bench import exchange, scaling, tables
from raydrgn.bench.exchange import Link, ring_bytes
from raydrgn.bench.settings import ExchangeSettings
from raydrgn.bench.step import configs
from raydrgn.bench.worker_steps import TimedNetwork
from raydrgn.geometry.lattice import half_disc

pytestmark = pytest.mark.clusters  # processes of torch.distributed, half a minute

SMALL = {"box": 16, "width": 64, "layers": 1, "batch_size": 2}


@pytest.fixture(scope="module")
def rates():
    before, exchange.ROUND_SECONDS = exchange.ROUND_SECONDS, 0.02
    yield exchange.run(ExchangeSettings(**SMALL, workers=3))
    exchange.ROUND_SECONDS = before


def test_each_worker_sends_what_a_ring_needs(rates):
    assert [step.workers for step in rates.steps] == [1, 2, 3]
    one, *others = rates.steps
    assert one.sent_bytes == pytest.approx(0, abs=1000)
    for step in others:
        assert 0.95 < step.sent_bytes / ring_bytes(rates.gradient_bytes, step.workers) < 1.2


def test_workers_of_cpus_send_as_much():
    """They wrap the network for DistributedDataParallel, as `bench scaling` does on CPUs."""
    model, train = configs([], width=64, layers=1, batch_size=2, amp=False)
    network = TimedNetwork(model=model, train=train, box=16, round_s=0.02, has_fixed_shapes=False)
    one, two = exchange.simulated(network, workers=2)
    size = sum(size for _, size in exchange.gradients_in_order(model, train, box=16))
    assert one.sent_bytes == pytest.approx(0, abs=1000)
    assert 0.95 < two.sent_bytes / size < 1.2


def test_the_gradient_of_the_first_layer_comes_last(rates):
    assert rates.last_name == "encoder.main.0.weight"
    assert rates.last_bytes == 4 * 64 * 2 * len(half_disc(16))
    model, train = configs([], width=64, layers=1, batch_size=2, amp=False)
    order = [name for name, _ in exchange.gradients_in_order(model, train, box=16)]
    assert order[0].startswith("decoder.decoder.main.")
    assert len(order) == len(set(order))


def test_with_the_least_batch_nine_tenths_of_the_rate_are_left(rates):
    link = Link("a link", 8, 1e9)
    arithmetic = rates.least_batch(link) * rates.flop_per_particle / exchange.GPU_FLOP_PER_S
    assert arithmetic / (arithmetic + rates.exchange_s(link)) == pytest.approx(0.9)
    assert rates.exchange_s(link) == pytest.approx(2 * 7 / 8 * rates.gradient_bytes / 1e9)


def test_the_table_names_what_is_modelled(rates):
    rows = dict(tables.exchange_rows(rates))
    assert rows["… that come last"].endswith("encoder.main.0.weight")
    assert "modelled: a GPU's step at 100 TFLOP/s" in rows
    assert rows["8 GPUs, NVLink 4 (450 GB/s)"].endswith("ms of exchange")


@pytest.mark.parametrize(("device", "is_fixed"), [("cuda", True), ("cpu", False)])
def test_scaling_times_the_steps_that_a_device_takes(monkeypatch, device, is_fixed):
    timed = []
    monkeypatch.setattr(scaling.ray.train.torch, "get_device", lambda: torch.device(device))
    monkeypatch.setattr(scaling, "measure", lambda network, device: timed.append(network) or [])
    model, train = configs([], width=8, layers=1, batch_size=2, amp=True)
    job = scaling._Job(model=model, train=train, box=16, cpus=1, round_s=0.1)
    scaling._measure({"job": job})
    assert timed[0].has_fixed_shapes == is_fixed
