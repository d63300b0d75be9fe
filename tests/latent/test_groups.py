"""Clusters shown before anything is dropped: the commands that follow."""

import numpy as np
import pytest

from raydrgn.latent.groups_report import Groups, next_commands


def groups(labels, noun="cluster"):
    labels = np.array(labels)
    count = len(labels)
    z = np.arange(2.0 * count).reshape(count, 2)
    return Groups(noun=noun, labels=labels, z=z, numbers=np.arange(count))


@pytest.mark.parametrize(
    ("labels", "name"), [([0, 1, 1], "without0"), ([-1, 0, 0], "without_none")]
)
def test_the_smallest_group_is_dropped_under_a_name_of_its_own(labels, name):
    first, second = next_commands(groups(labels), "raydrgn filter run")
    assert first == f"raydrgn filter run --drop-clusters {labels[0]}"
    assert f"not cluster in ({labels[0]})" in second
    assert second.endswith(f" --name {name}")


def test_where_there_is_one_group_there_is_nothing_to_drop():
    assert next_commands(groups([0, 0], "component"), "raydrgn filter run --gmm 1") == []
