"""The command that follows from a verdict on convergence."""

import pytest

from raydrgn.convergence.criteria import Finding
from raydrgn.convergence.schedule import CRITERION as SCHEDULE
from raydrgn.convergence.schedule import UnfinishedSchedule
from raydrgn.convergence.verdict import next_commands, open_criteria
from raydrgn.decoding.options import VolumeOptions
from raydrgn.workflows.convergence import ConvergenceSettings

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


def test_what_is_still_open_is_one_phrase():
    assert open_criteria([DONE]) == "losses and latents have converged"
    assert open_criteria([DONE, MOVING, BEFORE_ITS_END]) == (
        "still changing: total loss; ends with epoch 50"
    )
    assert open_criteria([DONE, BEFORE_ITS_END]) == (
        "losses and latents have converged; ends with epoch 50"
    )


def test_a_schedule_counts_what_is_left_since_its_last_restart():
    # restarted after epoch 20 for 30 more, of which 12 are done
    schedule = UnfinishedSchedule(epoch=32, first=20, last=50, peak_rate=4e-4, rate=1e-4)
    assert schedule.share_to_come == 0.6
    assert schedule.finding().text.startswith(
        "the learning rate is 0.0001, 25 % of its highest value; 60 % of the schedule is still to "
        "come (epochs 33 to 50)"
    )


def test_before_noise_rises_is_the_epoch_to_take():
    for findings in ([DONE], [MOVING]):
        found = next_commands("my run", 21, findings, fitted_noise_from=11)
        assert found == ["raydrgn analyze 'my run' 11"]


def test_a_run_of_another_program_is_not_trained_here():
    assert "raydrgn train" not in " ".join(next_commands("run", 21, [MOVING], can_train=False))


def test_commands_that_decode_volumes_have_the_options_of_volumes():
    found = next_commands("run", 21, [DONE], options=" --flip")
    assert found == ["raydrgn analyze run 21 --flip", "raydrgn landscape run 21 --flip"]
    [found] = next_commands("run", 21, [DONE], fitted_noise_from=11, options=" --flip")
    assert found == "raydrgn analyze run 11 --flip"
    assert "--flip" not in " ".join(next_commands("run", 21, [MOVING], options=" --flip"))


def test_hand_sign_and_pixel_size_of_volumes_are_options_of_the_next_command():
    settings = ConvergenceSettings(run="run")
    assert settings.volume_words() == ""
    volumes = VolumeOptions(flip=True, invert=True, box=64)
    settings = ConvergenceSettings(run="run", volumes=volumes, pixel_size_angstrom=1.2345678)
    assert settings.volume_words() == " --pixel-size 1.2345678 --flip --invert"


@pytest.mark.parametrize("can_train", [True, False])
def test_later_epochs_that_the_run_has_are_compared_before_it_is_trained_on(can_train):
    found = next_commands(
        "run", 21, [BEFORE_ITS_END], last_epoch=50, can_train=can_train, options=" --flip"
    )
    assert found == ["raydrgn convergence run 50 --flip"]
    assert next_commands("run", 21, [DONE], last_epoch=50)[0] == "raydrgn analyze run 21"
