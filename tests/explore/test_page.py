"""The explorer's page in a real browser: Debian's Chromium, driven by playwright.

With RAYDRGN_SCREENSHOTS=docs and RAYDRGN_SCREENSHOT_RUN=RUN the tour writes the pictures of
docs/explorer.md, of an analysed run.
"""

import json
import os
import re
from contextlib import ExitStack

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer_page import Visit, overlaps, ring, save_picture, wait_until
from explorer_server import KSAMPLE, analysed_run, running_server
from latents import finished_run
from raydrgn.cli.forms import CommandForms
from raydrgn.cli.main import app
from raydrgn.io import cryodrgn
from raydrgn.workflows.explore import ExploreSettings, open_explorer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return analysed_run(tmp_path_factory.mktemp("shown"))


@pytest.fixture(scope="module")
def server(root):
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as found:
        yield found


def test_the_page_shows_the_particles_and_asks_nobody_else(visit, server):
    assert visit.text("facts") == "203 particles, zdim 2"
    assert visit.page.input_value("#axis-x") == "umap1"
    colours = {tuple(pixel) for pixel in visit.picture("#frame").reshape(-1, 3)[:, :3].tolist()}
    assert len(colours) > 100
    by_cluster = visit.picture("#frame")
    visit.page.select_option("#colour-by", "defocus_u_angstrom")
    visit.page.wait_for_selector("#legend .bar")
    visit.wait_for_change("#frame", by_cluster)
    assert visit.page.is_disabled("#show-centres")  # this colour is of no clusters
    assert visit.asked
    assert all(
        url.startswith((f"http://127.0.0.1:{server.port}/", "data:", "blob:"))
        for url in visit.asked
    )
    assert server.session.token not in visit.page.url
    assert visit.page.evaluate("document.cookie") == ""


def test_particles_at_the_ends_of_a_plane_are_whole(visit):
    before = visit.picture("#frame")
    visit.page.select_option("#axis-x", "z0")
    visit.page.select_option("#axis-y", "defocus_u_angstrom")
    visit.wait_for_change("#frame", before)
    visit.wait_until_still("#frame")
    shown = visit.picture("#frame")[..., :3].astype(int)
    coloured = np.ptp(shown, axis=2) > 40  # the names of the axes are grey
    assert coloured.any()
    for edge in (coloured[2:5], coloured[-5:-2], coloured[:, 2:5], coloured[:, -5:-2]):
        assert not edge.any()


def test_axes_and_colours_are_named_in_words_with_their_units(visit):
    page = visit.page
    assert visit.text("label-x") == "UMAP 1"
    page.select_option("#colour-by", label="defocus U (Å)")
    page.wait_for_selector("#legend [aria-label='defocus U (Å) from']")
    page.select_option("#axis-y", label="defocus U (Å)")
    wait_until(page, "document.getElementById('label-y').textContent === 'defocus U (Å)'")
    page.fill("#go-number", "17")
    page.click("#go button")
    wait_until(
        page,
        "/UMAP 1 .*, defocus U \\(Å\\) = [0-9]/.test(document.getElementById('hover').textContent)",
    )
    page.select_option("#axis-y", "z0")  # as conditions and commands name it


def test_latents_of_one_dimension_fill_a_plane(browser, tmp_path):
    z = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    cryodrgn.write_pickles(str(tmp_path / "z.pkl"), z)
    with running_server(open_explorer(ExploreSettings(run=str(tmp_path / "z.pkl")))) as server:
        seen = Visit(browser, server)
        assert seen.text("label-x") == "z0"
        assert seen.text("label-y") == "particles (each at a random height)"
        shown = np.ptp(seen.picture("#frame")[..., :3].astype(int), axis=2) > 40
        seen.lasso([(0.3, 0.05), (0.6, 0.95)], mode="rectangle")
        seen.wait_for_selection()
        assert seen.errors == []
        seen.context.close()
    rows, columns = np.nonzero(shown)
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.3  # and not a line


def test_a_small_cluster_is_not_hidden_under_its_own_number(browser, tmp_path):
    centres, sizes = np.array([[0, 0], [1, 0], [0.5, 1]]), [120, 120, 3]
    noise = 0.08 * np.random.default_rng(0).normal(size=(243, 2))
    noise[240:] *= 1e-3  # all three in the place of one dot
    z = (np.repeat(centres, sizes, axis=0) + noise).astype(np.float32)
    latents = tmp_path / "z.pkl"
    cryodrgn.write_pickles(str(latents), z)
    words = ["analyze", str(latents), "--ksample", "3", "--skip-umap"]
    assert CliRunner().invoke(app, words).exit_code == 0

    def coloured():
        seen.wait_until_still("#frame")
        shown = seen.picture("#frame")[..., :3].astype(int)
        return np.ptp(shown[: len(shown) // 3], axis=2) > 40  # the small cluster is alone on top

    with running_server(open_explorer(ExploreSettings(run=str(latents)))) as server:
        seen = Visit(browser, server)
        seen.page.select_option("#axis-x", "z0")
        seen.page.select_option("#axis-y", "z1")
        with_number = coloured()
        seen.page.uncheck("#show-centres")
        alone = coloured()
        seen.context.close()
    assert 5 < alone.sum() < 200
    assert with_number[alone].mean() > 0.9


def test_a_lasso_selects_what_filter_selects(visit, root, tmp_path):
    visit.lasso(ring(0.5, 0.5, 0.22))
    visit.wait_for_selection()
    [sent] = visit.selections
    assert "rows" not in sent
    (tmp_path / "c.json").write_text(json.dumps({"conditions": sent["conditions"]}))
    words = ["filter", str(root), "--conditions", str(tmp_path / "c.json"), "--skip-volumes"]
    assert CliRunner().invoke(app, [*words, "-o", str(tmp_path / "f")]).exit_code == 0
    kept = cryodrgn.read_indices(str(tmp_path / "f" / "kept.ind.pkl"))
    assert visit.text("selection-count").startswith(f"{len(kept)} of 203 particles")
    assert 0 < len(kept) < 203

    # Exactly the points that lie within what was drawn are bright.
    inside = sent["conditions"][0]["inside"]["corners"]
    z, _ = cryodrgn.read_latents(str(root / "z.2.pkl"))
    xs, ys = np.array(inside).T
    centre, radius = np.array([xs.mean(), ys.mean()]), np.array([np.ptp(xs), np.ptp(ys)]) / 2
    distance = np.linalg.norm((z - centre) / radius, axis=1)
    assert set(kept) >= set(np.flatnonzero(distance < 0.95))
    assert not set(kept) & set(np.flatnonzero(distance > 1.05))

    visit.page.click("#selection-undo")
    wait_until(
        visit.page,
        "document.getElementById('selection-count').textContent === 'Nothing is selected'",
    )


def test_classes_and_ranges_are_joined(visit, root):
    [labels] = cryodrgn.read_pickles(str(root / f"analyze.2/kmeans{KSAMPLE}/labels.pkl"))
    z, _ = cryodrgn.read_latents(str(root / "z.2.pkl"))
    visit.page.check(".classes label:nth-child(2) input")
    visit.page.check(".classes label:nth-child(4) input")
    visit.page.click("text=Select ticked")
    visit.wait_for_selection()
    chosen = np.isin(labels, [1, 3])
    assert visit.text("selection-count").startswith(f"{chosen.sum()} of")
    assert f"--keep-clusters 1,3 --ksample {KSAMPLE}" in visit.text("selection-command")
    visit.page.select_option("#selection-join", "or")
    visit.page.select_option("#colour-by", "z0")
    low = round(float(np.quantile(z[:, 0], 0.8)), 3)
    visit.page.fill("#legend .range input:first-child", str(low))
    visit.page.click("text=Select range")
    expected = chosen | (z[:, 0] >= low)
    wait_until(
        visit.page,
        f"document.getElementById('selection-count').textContent.startsWith('{expected.sum()} of')",
    )
    assert visit.page.input_value("#selection-join") == "or"  # as chosen while points were drawn


def test_a_selection_is_saved_and_is_there_after_a_reload(visit, root):
    visit.lasso([(0.3, 0.2), (0.6, 0.9)], mode="rectangle")
    visit.wait_for_selection()
    count = visit.text("selection-count")
    visit.page.fill("#selection-name", "left")
    visit.page.click("#selection-save-button")
    visit.page.wait_for_selector("#saved-selections b:text('left')")
    kept = cryodrgn.read_indices(str(root / "explore/selections/left/kept.ind.pkl"))
    assert count.startswith(f"{len(kept)} of")
    visit.page.reload()
    visit.page.wait_for_selector("body[data-ready]")
    visit.page.click("[data-tab=results]")
    visit.page.click("#saved-selections button:text('Show')")
    visit.wait_for_selection()
    assert visit.text("selection-count") == count
    with visit.page.expect_download() as download:
        visit.page.click("#saved-selections a:text('kept.ind.pkl')")
    [found] = cryodrgn.read_pickles(str(download.value.path()))
    np.testing.assert_array_equal(found, kept)


INSECURE = "delete Crypto.prototype.randomUUID; delete Navigator.prototype.clipboard;"
"""Takes from a browser what it has not on a page over HTTP of another machine."""


def test_the_page_of_another_node_shows_volumes_and_commands_without_copy(browser, server):
    some = [{"join": "and", "range": {"column": "original", "low": 0, "high": 9}}]
    server.json("/api/save-selection", {"epoch": 2, "conditions": some, "name": "first_ten"})
    visit = Visit(browser, server, script=INSECURE)
    assert visit.page.evaluate("!crypto.randomUUID && !navigator.clipboard")
    visit.volume(17)
    visit.page.click("[data-tab=results]")
    visit.page.wait_for_selector("#saved-selections .command code")
    assert visit.page.locator("#saved-selections .command button").count() == 0
    assert visit.errors == []
    visit.context.close()


def test_a_volume_is_decoded_shown_and_saved(visit, root, tmp_path):
    before = visit.picture(".stage")
    visit.volume(17)
    assert int(visit.page.get_attribute("#volume-surface", "data-triangles")) > 100
    surface = visit.picture("#volume-surface")
    assert len(np.unique(surface.reshape(-1, surface.shape[-1]), axis=0)) > 100
    assert surface.shape != before.shape or (surface != before).mean() > 0.005
    triangles = visit.page.get_attribute("#volume-surface", "data-triangles")
    visit.page.fill("#volume-level", "1.5")
    wait_until(
        visit.page,
        "before => document.getElementById('volume-surface').dataset.triangles !== before",
        arg=triangles,
    )
    visit.page.select_option("#volume-view", "slices")
    visit.page.wait_for_selector("#volume-slices canvas >> nth=2")
    assert visit.page.is_disabled("#volume-reset")  # slices have no camera
    slices = [visit.picture(f"#volume-slices canvas >> nth={number}") for number in range(3)]
    assert 0.002 < np.mean(np.stack(slices)[..., 0] == 255) < 0.02
    visit.page.fill("#volume-name", "seventeen")
    visit.page.click("#volume-save-button")
    visit.page.click("[data-tab=results]")
    visit.page.wait_for_selector("#saved-volumes b:text('seventeen')")
    words = ["volumes", str(root), "--particles", "17", "-o", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == 0
    saved = root / "explore/volumes/seventeen/vol_000.mrc"
    assert saved.read_bytes() == (tmp_path / "vol_000.mrc").read_bytes()


def test_a_path_is_a_film_of_volumes(visit):
    visit.lasso([(0.2, 0.5), (0.8, 0.5)], mode="path")
    visit.page.wait_for_selector("#volume-surface[data-triangles*=' ']")
    count = visit.page.locator("#volume-chosen button").count()
    assert 3 <= count <= 8
    dots = visit.page.locator("#volume-chosen .dot").evaluate_all(
        "dots => dots.map((dot) => dot.style.background)"
    )
    greens = [int(re.findall(r"\d+", dot)[1]) for dot in dots]
    assert greens == sorted(set(greens))  # viridis, in the order of the path
    visit.page.select_option("#volume-view", "film")
    visit.page.click("#film-play")
    wait_until(visit.page, "document.getElementById('film-frame').value === '2'")
    visit.page.click("#film-play")
    assert re.fullmatch(rf"[3-{count}] of {count}: \d+", visit.text("film-text"))
    visit.page.fill("#volume-level-number", "2.4")
    visit.page.press("#volume-level-number", "Enter")
    assert visit.page.input_value("#volume-level") == "2.4"
    visit.page.select_option("#volume-view", "slices")
    visit.page.wait_for_selector("#volume-slices:has-text('edge')")
    with visit.page.expect_download() as download:
        visit.page.click("#volume-picture")
    assert download.value.suggested_filename == "slices.png"


CHOOSE = """() => {
  const list = document.getElementById('colour-by');
  for (const name of ['z0', 'pc1', 'defocus_u_angstrom', 'z_norm', 'z1']) {
    list.value = name;
    list.dispatchEvent(new Event('change'));
  }
}"""


def test_of_many_colours_chosen_at_once_the_last_is_shown(visit):
    """The plot draws one at a time, and slowly where the machine is busy."""
    visit.page.evaluate(CHOOSE)
    visit.page.wait_for_selector("#legend [aria-label='z1 from']")
    visit.page.wait_for_timeout(1500)
    assert visit.page.locator("#legend [aria-label='z1 from']").count() == 1
    assert visit.text("messages") == ""


def test_the_plot_keeps_its_scale_when_a_message_comes_and_goes(visit):
    """A message takes room above the plot, whose size and shape change."""
    page = visit.page
    visit.lasso([(0.3, 0.3), (0.7, 0.7)], mode="rectangle")
    visit.wait_for_selection()
    page.fill("#go-number", "7000")
    page.click("#go button")
    page.wait_for_selector("#messages p")
    visit.wait_until_still("#frame")
    page.click("#messages button")
    visit.wait_until_still("#frame")  # drawn anew in the size of before
    page.select_option("#selection-join", "new")
    visit.lasso([(0.3, 0.3), (0.7, 0.7)], mode="rectangle")
    while len(visit.selections) < 2:
        page.wait_for_timeout(100)
    before, after = (np.array(s["conditions"][0]["inside"]["corners"]) for s in visit.selections)
    np.testing.assert_allclose(after, before, atol=0.01 * np.ptp(before, axis=0).max())


def test_a_particle_of_a_number_is_shown_from_every_tab(visit):
    visit.page.click("[data-tab=results]")
    visit.volume(17)
    assert visit.page.is_visible("#tab-volumes")


def test_images_of_a_selection_lead_to_the_plot(visit):
    visit.page.click("[data-tab=images]")
    visit.page.select_option("#images-of", "selected")
    visit.lasso([(0.2, 0.2), (0.8, 0.8)], mode="rectangle")
    visit.page.wait_for_selector("#images .tile >> nth=20")
    assert visit.text("images-count").startswith("1–20 of")
    first = visit.page.locator("#images button").first
    number = first.inner_text()
    first.click()
    wait_until(
        visit.page, f"document.getElementById('hover').textContent.startsWith('particle {number}:')"
    )


def test_what_goes_wrong_is_said_in_words(browser, root, tmp_path):
    run = finished_run(tmp_path, epochs=1)
    with running_server(open_explorer(ExploreSettings(run=str(run)))) as server:
        visit = Visit(browser, server)
        assert "has no UMAP of this epoch" in visit.text("missing")
        assert visit.page.input_value("#axis-x") == "pc1"
        visit.page.fill("#go-number", "7000")
        visit.page.click("#go button")
        assert "There is no particle 7000" in visit.text("messages")
        assert visit.errors == []
    visit.page.wait_for_selector("#messages:has-text('The server does not answer')")
    assert visit.page.is_visible("#frame")
    visit.context.close()


PICTURES = {
    "path": "light", "selection": "light", "images": "light", "density": "dark", "results": "dark",
}  # fmt: skip
"""Views that docs/explorer.md shows, and how."""


@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.clusters), "dark"])
def test_a_tour_of_all_views(browser, server, theme):
    """Nothing overlaps or leaves a window of 1280 × 720, and every control can be reached."""
    run = os.environ.get("RAYDRGN_SCREENSHOT_RUN")
    with ExitStack() as stack:
        if run is not None:
            settings = ExploreSettings(run=run, commands=CommandForms())
            server = stack.enter_context(running_server(open_explorer(settings)))
        visit = Visit(browser, server, color_scheme=theme)
        page = visit.page

        def shoot(name):
            page.wait_for_timeout(1500)
            assert overlaps(page) == [], name
            if PICTURES[name] == theme:
                save_picture(page, name)

        assert page.evaluate("document.documentElement.dataset.theme") == theme
        visit.lasso([(0.15, 0.55), (0.5, 0.35), (0.85, 0.55)], mode="path")
        page.wait_for_selector("#volume-surface[data-triangles*=' ']")
        shoot("path")
        page.select_option("#volume-view", "slices")
        page.wait_for_selector("#volume-slices canvas >> nth=5")
        visit.lasso(ring(0.5, 0.5, 0.16))
        visit.wait_for_selection()
        shoot("selection")
        page.click("[data-tab=images]")
        page.select_option("#images-of", "selected")
        page.wait_for_selector("#images .tile >> nth=5")
        shoot("images")
        page.fill("#selection-name", f"middle_{theme}")
        page.click("#selection-save-button")
        page.wait_for_selector(f"#saved-selections b:text('middle_{theme}')")
        shoot("results")
        page.click("#selection-clear")
        page.select_option("#colour-by", "defocus_u_angstrom")
        page.select_option("#density-view", "density")
        page.click("[data-tab=volumes]")
        page.select_option("#volume-view", "together")
        shoot("density")
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            name = "document.activeElement.id || document.activeElement.innerText"
            reached.add(page.evaluate(name))
        wanted = {"axis-x", "colour-by", "Lasso", "zoom-in", "frame", "of-volumes"}
        assert wanted | {"selection-join"} <= reached
        assert visit.errors == []
        visit.context.close()
