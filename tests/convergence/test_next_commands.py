"""The command that follows from a verdict on convergence."""

import pytest

from raydrgn.convergence.criteria import Finding
from raydrgn.convergence.schedule import CRITERION as SCHEDULE
from raydrgn.convergence.verdict import next_commands

DONE = Finding("total loss", 12, "it is")
MOVING = Finding("total loss", None, "still changing")
BEFORE_ITS_END = Finding(SCHEDULE, None, "ends with epoch 50")


@pytest.mark.parametrize(
    ("findings", "commands"),
    [
        ([DONE], ["raydrgn analyze run 21", "raydrgn landscape run 21"]),
        ([MOVING, DONE], ["raydrgn train -o run --resume --epochs 32"]),
        ([MOVING, BEFORE_ITS_END], ["raydrgn train -o run --resume"]),
    ],
)
def test_training_goes_on_until_it_has_converged(findings, commands):
    assert next_commands("run", 21, findings) == commands


def test_before_noise_rises_is_the_epoch_to_take():
    for findings in ([DONE], [MOVING]):
        found = next_commands("my run", 21, findings, fitted_noise_from=11)
        assert found == ["raydrgn analyze 'my run' 11"]


def test_a_run_of_another_program_is_not_trained_here():
    assert "raydrgn train" not in " ".join(next_commands("run", 21, [MOVING], can_train=False))
