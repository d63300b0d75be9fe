"""The latent space coloured by values and labels of any origin."""

import matplotlib as mpl
import numpy as np
import pytest

from finished_run import make_run
from phantoms import table_of
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.reporting import latent_figures
from raydrgn.workflows import filter as filtering
from raydrgn.workflows import plot as workflow
from raydrgn.workflows.filter import FilterSettings
from raydrgn.workflows.plot import PlotSettings

Z = np.random.default_rng(0).normal(size=(30, 2))
CHOSEN = np.arange(0, 60, 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run on every second particle of sixty."""
    folder = tmp_path_factory.mktemp("plotted") / "run"
    table = table_of(60, box=8, pixel_size=2.0).select(CHOSEN)
    return make_run(folder, Z, table=table).files.root


def drawn(root, tmp_path, by, *, out="figure.svg", **more):
    made = workflow.run(PlotSettings(run=root, by=str(by), out=str(tmp_path / out), **more))
    assert (tmp_path / out).stat().st_size > 3000
    return made


def colours_of(made):
    """Return the colour of each particle, in the order of the run."""
    dots = [c for c in made.figure.axes[0].collections if len(c.get_offsets()) > 1]
    places = np.concatenate([c.get_offsets() for c in dots])
    colours = np.concatenate([np.broadcast_to(c.get_facecolors()[:, :3], (len(c.get_offsets()), 3))
                              for c in dots])  # fmt: skip
    order = np.argsort(places[:, 0])
    back = np.argsort(np.argsort(made.xy[:, 0]))
    return colours[order][back]


def test_a_value_of_the_particles_is_a_colour_of_the_scale(root, tmp_path):
    made = drawn(root, tmp_path, "z0")
    assert made.num_coloured == made.num_particles == 30
    limits = mpl.colors.Normalize(*np.percentile(Z[:, 0], [1, 99]))
    expected = mpl.colormaps["viridis"](limits(Z[:, 0]))[:, :3]
    np.testing.assert_allclose(colours_of(made), expected, atol=1e-5)


def test_labels_and_values_of_the_whole_set_are_matched_by_number(root, tmp_path):
    states = np.array(["open", "closed"])[(np.arange(60) % 4 == 2).astype(int)]
    np.save(tmp_path / "states.npy", states)
    made = drawn(root, tmp_path, tmp_path / "states.npy")
    blue, red = (mpl.colors.to_rgb(c) for c in latent_figures.PALETTE[:2])  # closed, open
    expected = [blue if state == "closed" else red for state in states[CHOSEN]]
    np.testing.assert_allclose(colours_of(made), expected, atol=1e-5)

    cryodrgn.write_pickles(str(tmp_path / "values.pkl"), np.linspace(0.5, 9.7, 60))
    made = drawn(root, tmp_path, tmp_path / "values.pkl")
    known = np.linspace(0.5, 9.7, 60)[CHOSEN]
    limits = mpl.colors.Normalize(*np.percentile(known, [1, 99]))
    expected = mpl.colormaps["viridis"](limits(known))[:, :3]
    np.testing.assert_allclose(colours_of(made), expected, atol=1e-5)


@pytest.mark.parametrize("density", [False, True])
def test_a_figure_names_what_its_labels_are(root, tmp_path, density):
    np.save(tmp_path / "states.npy", np.arange(60) % 4)
    made = drawn(root, tmp_path, tmp_path / "states.npy", density=density)
    legend = made.figure.axes[0].get_legend()
    title = made.figure.get_suptitle() if density else legend.get_title().get_text()
    assert title == "states.npy"


def test_a_scale_names_what_its_values_are_in_words(root, tmp_path):
    def scale(by):
        return drawn(root, tmp_path, by).figure.axes[1].get_ylabel()

    assert scale("defocus_u_angstrom") == "defocus U (Å)"
    rows = "".join(f"{number} {1e4 + number / 7:.1f}\n" for number in range(60))
    head = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n"
    star = head + "".join(f"{k + 1:06d}@s.mrcs {1e4 + k / 7:.1f}\n" for k in range(60))
    (tmp_path / "p.star").write_text(star)
    assert scale(f"{tmp_path}/p.star:rlnDefocusU") == "defocus U (Å), p.star"
    (tmp_path / "v.csv").write_text("original,defocus\n" + rows.replace(" ", ","))
    assert scale(f"{tmp_path}/v.csv") == "defocus, v.csv"  # the column that was taken


def test_labels_of_a_star_file_are_named_by_their_column(root, tmp_path):
    head = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n"
    star = head + "".join(f"{k + 1:06d}@s.mrcs {k % 3}\n" for k in range(60))
    (tmp_path / "p.star").write_text(star)
    made = drawn(root, tmp_path, tmp_path / "p.star")
    assert made.figure.axes[0].get_legend().get_title().get_text() == "class number, p.star"


@pytest.mark.parametrize("by", ["z_norm", "labels.npy"])
@pytest.mark.parametrize("density", [False, True])
def test_latents_of_one_dimension_are_drawn_in_their_histogram(tmp_path, by, density):
    z = np.sort(np.random.default_rng(0).normal(size=(900, 1)), axis=0)
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "labels.npy", np.arange(900) % 4)
    place = tmp_path / by if by.endswith("npy") else by
    made = drawn(str(tmp_path / "z.npy"), tmp_path, place, density=density)
    axis = made.figure.axes[0]
    assert axis.get_xlabel() == "z0"
    assert axis.get_ylabel() == "particles (each at a random height)"
    np.testing.assert_allclose(made.xy[:, 0], z[:, 0], rtol=1e-6)
    assert 0 <= made.xy[:, 1].min() < made.xy[:, 1].max() < 100


def test_particles_that_a_file_lacks_are_grey(root, tmp_path):
    (tmp_path / "some.csv").write_text("original,occupancy\n0,0.5\n4,0.7\n6,0.1\n1,0.2\n")
    made = drawn(root, tmp_path, tmp_path / "some.csv")
    assert made.num_coloured == 3
    grey = np.abs(colours_of(made) - mpl.colors.to_rgb(latent_figures.GREY)).max(axis=1) < 1e-5
    np.testing.assert_array_equal(np.flatnonzero(~grey), [0, 2, 3])
    (tmp_path / "labels.csv").write_text("original,state,x\n0,a,1\n4,b,2\n")
    assert drawn(root, tmp_path, f"{tmp_path}/labels.csv:state").num_coloured == 2


def test_a_subunit_of_a_folder_of_occupancies_is_a_colour(root, tmp_path):
    score_table(tmp_path / "occupancy", np.array([0, 4, 6]))
    assert drawn(root, tmp_path, f"{tmp_path}/occupancy:stalk").num_coloured == 3
    with pytest.raises(InputError, match="stalk"):
        drawn(root, tmp_path, f"{tmp_path}/occupancy:arm")


def test_a_condition_on_occupancies_outside_the_run_says_where_they_belong(root):
    with pytest.raises(ConfigError, match=r"no value 'occupancy\.stalk'.*in the run: .*--out"):
        filtering.run(FilterSettings(run=root, where="occupancy.stalk > 0.5", skip_volumes=True))


def score_table(folder, original):
    """Write occupancies of two subunits."""
    OccupancyTable(
        volumes=tuple(map(str, original)),
        subunits=("stalk", "lid"),
        values=np.random.default_rng(0).uniform(size=(len(original), 2)),
        original=original,
    ).write(str(folder))


@pytest.mark.parametrize("by", ["z_norm", "defocus_u_angstrom", "labels.npy"])
def test_densities_and_other_formats(root, tmp_path, by):
    np.save(tmp_path / "labels.npy", np.arange(60) % 5)
    place = tmp_path / by if by.endswith("npy") else by
    made = drawn(root, tmp_path, place, density=True, pcs="2,1", out="figure.pdf")
    assert made.figure.axes[0].get_xlabel() == "PC 2"
    drawn(root, tmp_path, place, density=True, out="figure.png")


def test_the_same_figure_is_the_same_file(root, tmp_path):
    for out in ("a.svg", "b.svg", "a.pdf", "b.pdf"):
        drawn(root, tmp_path, "z0", out=out)
    for suffix in ("svg", "pdf"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_mistakes_are_one_message(root, tmp_path):
    out = str(tmp_path / "f.png")
    np.save(tmp_path / "three.npy", np.arange(3))
    np.save(tmp_path / "shape.npy", np.zeros((60, 2)))
    for by, error, message in (
        ("nothing", InputError, r"or a file of labels\. Values there are: cluster, "),
        ("cluster", RunDirectoryError, "raydrgn analyze"),
        (tmp_path / "three.npy", InputError, "3 labels without the numbers"),
        (tmp_path / "shape.npy", InputError, "a number for each particle; found"),
    ):
        with pytest.raises(error, match=message):
            workflow.run(PlotSettings(run=root, by=str(by), out=out))
    with pytest.raises(ConfigError, match=r"should end in \.png, \.svg or \.pdf"):
        PlotSettings(run=root, by="z0", out="figure.jpg")
    for pcs in ("1", "1,1", "0,1"):
        with pytest.raises(ConfigError, match="--pcs takes two different components"):
            PlotSettings(run=root, by="z0", out=out, pcs=pcs)
    with pytest.raises(ConfigError, match=r"the latents of .* particles have 2 components\."):
        workflow.run(PlotSettings(run=root, by="z0", out=out, pcs="1,3"))


def test_a_single_dimension_is_named_in_the_singular(tmp_path):
    np.save(tmp_path / "z.npy", np.arange(60.0)[:, None])
    run = str(tmp_path / "z.npy")
    with pytest.raises(ConfigError, match=r"the latents of 60 particles have 1 component\."):
        workflow.run(PlotSettings(run=run, by="z0", out=str(tmp_path / "f.png"), pcs="1,3"))


@pytest.mark.parametrize("density", [False, True])
def test_values_that_no_particle_has_are_refused(root, tmp_path, density):
    rows = "".join(f"{number},\n" for number in range(60))
    (tmp_path / "v.csv").write_text(f"original,defocus\n{rows}")
    with pytest.raises(InputError, match=r"v.csv:defocus is not known of any particle"):
        drawn(root, tmp_path, f"{tmp_path / 'v.csv'}:defocus", density=density)


def test_dimensions_count_from_0_as_columns_do():
    axes = latent_figures.latent_histograms(Z).axes
    assert [axis.get_xlabel() for axis in axes] == ["z0", "z1"]
