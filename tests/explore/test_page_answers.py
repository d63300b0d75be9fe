"""Answers that come late or are refusals, as the explorer's page takes them."""

import shutil

import pytest

from explorer_page import wait_until
from explorer_server import analysed_run, running_server
from raydrgn.workflows.explore import ExploreSettings, open_explorer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return analysed_run(tmp_path_factory.mktemp("answered"))


@pytest.fixture(scope="module")
def server(root):
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as found:
        yield found


def held(page, pattern):
    """Return a list that takes the next request of a pattern, which waits for its answer."""
    found = []

    def hold(route):
        if found:
            route.continue_()
        else:
            found.append(route)

    page.route(pattern, hold)
    return found


def release(page, found):
    """Have the request answered that was held, and give the page time to take the answer."""
    with page.expect_response(found[0].request.url):
        found[0].continue_()
    page.wait_for_timeout(300)


def wait_for_request(page, found):
    while not found:
        page.wait_for_timeout(50)


def test_a_late_column_of_an_epoch_is_not_taken_for_one_of_the_next(visit, server):
    page = visit.page
    late = held(page, "**/api/column?epoch=2&name=z0")
    page.select_option("#colour-by", "z0")
    wait_for_request(page, late)
    wait_until(page, "document.getElementById('epochs').options.length === 2")
    page.select_option("#epochs", "1")
    page.wait_for_selector("#legend [aria-label='z0 from']")
    release(page, late)
    low = server.arrays("/api/column?epoch=1&name=z0")["low"]
    shown = page.get_attribute("#legend [aria-label='z0 from']", "placeholder")
    assert float(shown) == pytest.approx(low, rel=1e-3)


def test_epoch_axes_and_colour_stay_after_a_change_of_epoch_and_a_reload(visit):
    page = visit.page
    wait_until(page, "document.getElementById('epochs').options.length === 2")
    page.select_option("#axis-x", "z1")
    page.select_option("#axis-y", "defocus_u_angstrom")
    page.select_option("#colour-by", "z0")
    page.select_option("#epochs", "1")
    wait_until(page, "location.hash.includes('epoch=1&x=z1&y=defocus_u_angstrom&colour=z0')")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    wait_until(page, "document.getElementById('epochs').value === '1'")
    shown = [page.input_value(f"#{name}") for name in ("axis-x", "axis-y", "colour-by")]
    assert shown == ["z1", "defocus_u_angstrom", "z0"]


def test_a_reload_shows_the_newest_epoch_until_one_is_chosen(visit, root):
    page = visit.page
    wait_until(page, "document.getElementById('epochs').value === '2'")
    later = [root / f"{name}.3.pkl" for name in ("weights", "z")]
    try:
        for file in later:
            shutil.copy(root / file.name.replace("3", "2"), file)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        wait_until(page, "document.getElementById('epochs').value === '3'")
        page.select_option("#epochs", "2")
        wait_until(page, "location.hash.includes('epoch=2')")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        wait_until(page, "document.getElementById('epochs').value === '2'")
    finally:
        for file in later:
            file.unlink()


def test_undo_does_not_take_what_was_selected_in_another_epoch(visit):
    page = visit.page
    wait_until(page, "document.getElementById('epochs').options.length === 2")
    visit.lasso([(0.3, 0.3), (0.7, 0.7)], mode="rectangle")
    wait_until(page, "!document.getElementById('selection-undo').disabled")
    page.select_option("#epochs", "1")
    wait_until(page, "document.getElementById('selection-undo').disabled")
    assert visit.text("selection-count") == "Nothing is selected"


INK = """() => {
  const canvas = document.getElementById('density');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value) => value > 0);
}"""


def test_a_late_density_is_not_drawn_over_points_alone(visit):
    page = visit.page
    late = held(page, "**/api/density*")
    page.select_option("#density-view", "both")
    wait_for_request(page, late)
    page.select_option("#density-view", "points")
    release(page, late)
    assert not page.evaluate(INK)
    page.select_option("#density-view", "both")
    wait_until(page, INK)


def test_late_images_do_not_take_the_place_of_the_next_page(visit):
    page = visit.page
    page.click("[data-tab=images]")
    page.select_option("#images-of", "selected")
    late = held(page, "**/api/images")
    visit.lasso([(0.1, 0.1), (0.9, 0.9)], mode="rectangle")
    wait_for_request(page, late)
    page.click("#images-on")
    page.wait_for_selector("#images .tile")
    shown = visit.text("images")
    release(page, late)
    assert visit.text("images") == shown


def test_what_could_not_be_saved_is_not_being_written(visit, root):
    (root / "explore/volumes/taken").mkdir(parents=True)
    (root / "explore/volumes/taken/vol_000.mrc").write_bytes(b"")
    visit.volume(17)
    visit.page.fill("#volume-name", "taken")
    visit.page.click("#volume-save-button")
    visit.page.wait_for_selector("#messages:has-text('choose another name')")
    assert visit.text("volume-status") == ""
    visit.errors.clear()  # the browser's own line about the answer 400


def test_volumes_that_were_cleared_are_not_being_decoded(visit):
    page = visit.page
    late = held(page, "**/api/volumes")
    page.fill("#go-number", "17")
    page.click("#go button")
    wait_for_request(page, late)
    assert visit.text("volume-status").startswith("Decoding")
    page.click("#volume-clear")
    release(page, late)
    assert visit.text("volume-status") == ""
