"""Settings of the protocol, and the words of a training."""

import pytest

from raydrgn.errors import ConfigError
from raydrgn.protocol.settings import ProtocolSettings, TrainingPlan


@pytest.mark.parametrize(
    ("text", "method", "values"),
    [
        ("", "mfa", (None, None, 7)),
        ("128", "mfa", (128, None, 7)),
        ("256x3", "vae", (None, 256, 50)),
        ("128 256x3 epochs=20", "vae", (128, 256, 20)),
        ("epochs=12 64", "mfa", (64, None, 12)),
    ],
)
def test_a_network_makes_it_an_autoencoder(text, method, values):
    plan = TrainingPlan.read(text, "--low")
    assert plan.method == method
    assert (plan.box, plan.width, plan.epochs) == values
    assert TrainingPlan.read(plan.text(), "--low") == plan


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("128 256x3 batch=8", "--low takes words such as .* but has 'batch=8'"),
        ("128 epochs=5 epochs=6", "each once, but has 'epochs=6'"),
        ("128 64x3 32x2", "each once, but has '32x2'"),
        ("128 64", "each once, but has '64'"),
        ("127", "--low '127' needs an even box"),
        ("128 0x3", "needs an even box, and a network"),
        ("128 epochs=2", "too few epochs; convergence can be judged of 3 or more"),
    ],
)
def test_words_that_are_none_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        ProtocolSettings(out="p", low=text)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"--high has a box of 128 px, and --boxes 64,96 another"):
        ProtocolSettings(out="p", boxes="64,96", high="128 64x3")
    with pytest.raises(ConfigError, match="--boxes takes two even numbers, the smaller first"):
        ProtocolSettings(out="p", boxes="64")
    with pytest.raises(ConfigError, match="--by names the subunits of --model"):
        ProtocolSettings(out="p", by="chain")
    with pytest.raises(ConfigError, match="--half-size-shifts belongs to PARTICLES"):
        ProtocolSettings(out="p", half_size_shifts=True)
    with pytest.raises(ConfigError, match="--drop takes whole numbers"):
        ProtocolSettings(out="p", drop="all")


def test_no_clusters_and_nothing_said_are_different():
    assert ProtocolSettings(out="p").clusters is None
    assert ProtocolSettings(out="p", drop="none").clusters == ()
    assert ProtocolSettings(out="p", drop="3,11").clusters == (3, 11)
    of_round = ProtocolSettings(out="p", drop="2:3,11")
    assert (of_round.drop_round, of_round.clusters) == (2, (3, 11))
    assert ProtocolSettings(out="p", drop="1:none").clusters == ()
    with pytest.raises(ConfigError, match="takes ROUND:CLUSTERS such as 1:3,11; got 'x:3'"):
        ProtocolSettings(out="p", drop="x:3")
    with pytest.raises(ConfigError, match="names no cluster; give some, such as 3,11, or none"):
        ProtocolSettings(out="p", drop="1:")
    with pytest.raises(ConfigError, match="--drop is empty"):
        ProtocolSettings(out="p", drop="")  # a variable of the shell that is not set
