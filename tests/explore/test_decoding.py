"""Requests for volumes that wait, are overtaken, or meet a decoder that dies."""

import asyncio
import threading
from datetime import datetime

import numpy as np
import pytest

from raydrgn.errors import ClusterError, InputError, LostWorkersError, StorageError
from raydrgn.explore import decoding
from raydrgn.explore.decoding import BusyError, Decoding, OvertakenError, VolumeOrder

BOX = 4


class Pool:
    """Stands for a decoder pool: volumes are filled with the first number of their latent."""

    def __init__(self, problem=None):
        self.problem, self.decoded, self.is_open = problem, [], False
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.has_begun = threading.Event()

    def __enter__(self):
        self.is_open = True
        return self

    def __exit__(self, *_):
        self.is_open = False

    def volumes(self, z, *, box):
        self.has_begun.set()
        self.may_go_on.wait(60)
        if self.problem:
            raise self.problem
        self.decoded += z[:, 0].tolist()
        return np.broadcast_to(z[:, :1, None, None], (len(z), box, box, box)).astype(np.float32)


def order(number, values, *, page="p", epoch=1, weights=None):
    z = np.array(values, dtype=np.float32)[:, None]
    return VolumeOrder(
        page=page,
        number=number,
        run="run",
        epoch=epoch,
        weights=weights,
        is_flipped=False,
        z=z,
        box=BOX,
    )


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def held(pool):
    found = Decoding(lambda run, epoch: pool, workers=None)
    yield found
    found.close()
    assert not pool.is_open


def test_an_overtaken_request_ends_between_two_volumes(pool, held):
    async def ask():
        pool.may_go_on.clear()
        first = asyncio.create_task(held.volumes(order(1, [1, 2, 3, 4])))
        await asyncio.to_thread(pool.has_begun.wait, 60)
        second = asyncio.create_task(held.volumes(order(2, [9])))
        other = asyncio.create_task(held.volumes(order(1, [7], page="q")))
        await asyncio.sleep(0.05)
        pool.may_go_on.set()
        return await asyncio.gather(first, second, other, return_exceptions=True)

    first, second, other = asyncio.run(ask())
    assert isinstance(first, OvertakenError)
    assert (second[0, 0, 0, 0], other[0, 0, 0, 0]) == (9, 7)
    assert pool.decoded == [1, 9, 7]


def test_a_decoder_that_dies_is_said_and_started_again():
    pools = [Pool(RuntimeError("the worker died")), Pool()]
    opened = iter(pools)
    held = Decoding(lambda run, epoch: next(opened), workers=None)
    with pytest.raises(ClusterError, match=r"lost \(the worker died\)\. It is started again"):
        asyncio.run(held.volumes(order(1, [1])))
    assert asyncio.run(held.volumes(order(2, [1]))).shape == (1, BOX, BOX, BOX)
    assert [pool.is_open for pool in pools] == [False, True]
    held.close()


def test_lost_workers_are_said_and_started_again():
    pools = [Pool(LostWorkersError("3 workers died")), Pool()]
    opened = iter(pools)
    held = Decoding(lambda run, epoch: next(opened), workers=None)
    with pytest.raises(ClusterError, match=r"lost \(3 workers died\)"):
        asyncio.run(held.volumes(order(1, [1])))
    assert asyncio.run(held.volumes(order(2, [1]))).shape == (1, BOX, BOX, BOX)
    held.close()


@pytest.mark.parametrize(
    "problem", [StorageError("weights.1.pkl does not exist."), ClusterError("No GPU is free.")]
)
def test_a_decoder_that_cannot_be_opened_is_not_called_lost(problem):
    def open_pool(run, epoch):
        raise problem

    held = Decoding(open_pool, workers=None)
    with pytest.raises(type(problem)) as found:
        asyncio.run(held.volumes(order(1, [1])))
    assert found.value is problem
    held.close()


def test_volumes_that_are_not_finite_are_refused(held):
    with pytest.raises(InputError, match="run: volumes of epoch 1 have densities that are not"):
        asyncio.run(held.volumes(order(1, [1, np.nan])))


def test_another_epoch_has_another_pool():
    pools = {1: Pool(), 2: Pool()}
    held = Decoding(lambda run, epoch: pools[epoch], workers=None)
    asyncio.run(held.volumes(order(1, [1, 2, 3], epoch=1)))
    asyncio.run(held.volumes(order(2, [4], epoch=2)))
    assert (pools[1].decoded, pools[2].decoded) == ([1, 2, 3], [4])
    assert [pool.is_open for pool in pools.values()] == [False, True]
    held.close()
    assert not pools[2].is_open


def test_weights_that_were_written_anew_have_another_pool():
    first, second = Pool(), Pool()
    left = [first, second]
    held = Decoding(lambda run, epoch: left.pop(0), workers=None)
    for number, minute in enumerate((1, 1, 2)):
        asyncio.run(held.volumes(order(number, [number], weights=datetime(2026, 1, 1, 0, minute))))
    assert (first.decoded, second.decoded) == ([0, 1], [2])
    assert not first.is_open
    held.close()


def test_no_more_than_some_requests_wait(pool, held, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_WAITING", 3)

    async def ask():
        pool.may_go_on.clear()
        asked = [asyncio.create_task(held.volumes(order(1, [k], page=str(k)))) for k in range(5)]
        await asyncio.sleep(0.05)
        pool.may_go_on.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(ask())
    assert [isinstance(entry, BusyError) for entry in found] == [False] * 3 + [True] * 2
