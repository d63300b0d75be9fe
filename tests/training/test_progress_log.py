"""Lines of run.log about the progress of training."""

from dataclasses import replace

from raydrgn.data.config import ImageConfig
from raydrgn.io.particle_source import ParticleSource
from raydrgn.mfa.config import MfaConfig
from raydrgn.run.config import RunConfig
from raydrgn.training.progress_log import TrainProgress, log_line, stop_message


def test_a_line_has_what_people_watch():
    progress = TrainProgress(
        epoch=3,
        step=750,
        particles=12_000,
        total=0.98121,
        reconstruction=0.98,
        kl=12.31234,
        learning_rate=0.00291,
        rate=1234.5,
        seconds=99.0,
    )
    assert log_line(progress, epochs=20, num_particles=60_000) == (
        "epoch 3/20: 12,000/60,000 particles: loss 0.981210, reconstruction 0.980000, KL 12.3123, "
        "learning rate 2.91e-03, 1,234 particles/s"
    )


def test_a_mixture_stops_after_a_pass_which_may_take_long():
    """Checkpoints are between passes, each over all particles."""
    network = RunConfig(
        source=ParticleSource(particles="p.star"),
        data=ImageConfig(box=16),
        pixel_size_angstrom=1.0,
    )
    mixture = replace(network, mfa=MfaConfig())
    assert "at the end of this pass over the particles" in stop_message(mixture)
    assert "stopping shortly" in stop_message(network)
