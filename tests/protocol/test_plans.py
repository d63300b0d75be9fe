"""The trainings of a project, as they are decided."""

import pytest

from raydrgn.errors import ConfigError, InputError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.protocol.decisions import ProjectInputs
from raydrgn.protocol.plans import check_counts, decide_plans
from raydrgn.protocol.project import Project
from raydrgn.protocol.settings import ProtocolSettings, TrainingPlan


def test_a_box_that_was_given_once_holds_until_another_is(tmp_path):
    project = Project(str(tmp_path / "p"))
    for name in ("f.star", "m.mrc"):
        (tmp_path / name).touch()
    source = ParticleSource(particles=str(tmp_path / "f.star"))
    project.decisions.begin(ProjectInputs(source=source, map=str(tmp_path / "m.mrc")))

    def plans(**given):
        settings = ProtocolSettings(out=project.root, **given)
        low, high = decide_plans(settings, project, 320, keeps=True)
        return low.text().split(" ")[0], high.text().split(" epochs")[0]

    assert plans() == ("128", "256 1024x3")
    assert plans(boxes="96,192") == ("96", "192 1024x3")
    assert plans(high="512x3 epochs=30") == ("96", "192 512x3")
    assert plans(low="256x3") == ("96", "192 512x3")
    assert plans(high="224 512x3") == ("96", "224 512x3")
    assert plans(boxes="64,128") == ("64", "128 512x3")
    with pytest.raises(ConfigError, match=r"--high has a box of 32 px, smaller than .*, 64 px"):
        plans(high="32")
    assert plans(low="32", high="32") == ("32", "32")


def test_too_few_particles_for_a_mixture_are_refused_with_the_option_of_a_network():
    plans = [TrainingPlan.read(words, "--low") for words in ("32", "32 64x2")]
    check_counts(plans, 100)
    with pytest.raises(InputError, match=r"^99 particles are too few .* such as --low 64x2\.$"):
        check_counts(plans, 99)
    with pytest.raises(InputError, match=r"^1 particle is too few .* such as --high 64x2\.$"):
        check_counts(plans[::-1], 1)
    check_counts(plans[1:], 1)
