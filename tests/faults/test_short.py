"""Trials of faults, the short form: a machine is lost in the middle of a command."""

import pytest

from faults import commands
from faults.commands import Case, disturbed
from faults.machines import Machines
from faults.trial import Result, Trial, table

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with Machines(2, cpus=3) as found:
        yield found


def short_volumes(folder):
    root = commands.run_directory(folder, particles=320, box=32)
    return ["volumes", root, "--z-file", f"{root}/z.4.pkl"]


VOLUMES = Case(
    command="volumes",
    prepare=short_volumes,
    out=["-o", "OUT"],
    began=commands.files("vol_*.mrc", 16),
)
BACKPROJECT = Case(
    command="backproject",
    prepare=lambda folder: commands.backproject(folder, count=16_000, box=32),
    out=["-o", "OUT"],
)


@pytest.mark.clusters
@pytest.mark.parametrize("case", [VOLUMES, BACKPROJECT], ids=lambda case: case.command)
def test_a_lost_machine_loses_nothing(case, machines, tmp_path):
    machines.restore(2)
    result = disturbed(case, Machines.kill, machines, tmp_path, here=True)
    assert result.lost == ""
    assert result.noticed is not None
    assert result.recovered is not None


@pytest.mark.clusters
def test_all_machines_are_lost_and_a_smaller_one_joins(machines, tmp_path):
    machines.restore(2)
    result = disturbed(VOLUMES, commands.lose_all_but_new, machines, tmp_path, here=True)
    assert result.lost == ""
    assert result.recovered is not None


def test_the_table_has_a_row_for_each_trial():
    trial = Trial(name="a", fault="a machine is lost", command="volumes", run=lambda _: None)
    lost = Result(noticed=1.25, recovered=None, lost="vol_000.mrc")
    assert table([(trial, lost)])[2:] == [
        "| a machine is lost | `volumes` | 1.2 s | – | vol_000.mrc |"
    ]
