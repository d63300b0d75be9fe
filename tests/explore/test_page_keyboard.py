"""The explorer's page by keyboard alone, and in narrow windows."""

import numpy as np
import pytest

from explorer_page import Visit, overlaps, wait_until
from explorer_server import analysed_run, running_server
from raydrgn.io import cryodrgn
from raydrgn.workflows.explore import ExploreSettings, open_explorer

MOST_TABS = 80
UNNAMED = """() => [...document.querySelectorAll('button, select, input, [tabindex]')]
  .filter((e) => e.checkVisibility() && !e.ariaLabel && !e.labels?.length && !e.textContent.trim())
  .map((e) => e.id || e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = analysed_run(tmp_path_factory.mktemp("by_keyboard"))
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as found:
        yield found


def go_to(page, name):
    """Press Tab until an element has the focus, which must be seen."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(outline) == "solid"
            return
    raise AssertionError(f"{name} cannot be reached")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def test_a_particle_is_found_and_its_volume_is_turned(visit):
    page = visit.page
    go_to(page, "frame")
    assert visit.text("hover").startswith("Arrows move a cursor")
    press(page, "Shift+ArrowLeft", "ArrowUp")
    wait_until(page, "document.getElementById('hover').textContent.startsWith('particle ')")
    number = visit.text("hover").split(":")[0].removeprefix("particle ")
    press(page, "Enter")
    page.wait_for_selector("#volume-surface[data-triangles]")
    assert visit.text("volume-chosen").startswith(number)
    go_to(page, "volume-surface")
    before = visit.picture("#volume-surface")
    press(page, "ArrowLeft", "ArrowLeft")
    visit.wait_for_change("#volume-surface", before)


@pytest.mark.parametrize("mode", ["rectangle", "lasso"])
def test_particles_are_selected_within_corners(visit, mode):
    page = visit.page
    page.focus(f"[data-mode={mode}]")
    press(page, "Enter")
    go_to(page, "frame")
    press(page, *["Shift+ArrowLeft"] * 3, "Enter", *["Shift+ArrowRight"] * 6)
    if mode == "lasso":
        press(page, "Enter")
    press(page, *["Shift+ArrowDown"] * 3, "Enter")
    if mode == "lasso":
        press(page, "Enter")  # there once more
    visit.wait_for_selection()
    corners = np.array(visit.selections[0]["conditions"][0]["inside"]["corners"])
    assert len(corners) == (4 if mode == "rectangle" else 3)
    assert np.ptp(corners[:, 0]) > 0
    press(page, "Enter", "ArrowLeft", "Escape")
    press(page, *["ArrowLeft"] * 3)
    assert len(visit.selections) == 1


def test_tabs_follow_arrows_and_escape_closes_messages(visit):
    page = visit.page
    page.focus("#of-volumes")
    press(page, "ArrowRight", "ArrowRight", "Enter")
    assert page.is_visible("#tab-results")
    press(page, "ArrowLeft", "ArrowLeft", "ArrowLeft", "Enter")
    assert page.is_visible("#tab-results")  # the last one: nothing can be started here
    page.fill("#go-number", "7000")
    page.focus("#go-number")
    press(page, "Enter")
    page.wait_for_selector("#messages p")
    press(page, "Escape")
    assert page.locator("#messages p").count() == 0


def test_everything_that_can_be_used_has_a_name(visit):
    for tab in ("volumes", "images", "results"):
        visit.page.click(f"[data-tab={tab}]")
        assert visit.page.evaluate(UNNAMED) == []


HIDDEN_WORDS = """(id) => {
  const { scrollWidth, clientWidth } = document.getElementById(id);
  return scrollWidth - clientWidth;
}"""


@pytest.mark.parametrize(("width", "height"), [(1024, 768), (800, 600)])
def test_in_a_narrow_window_nothing_overlaps_and_all_particles_are_seen(
    browser, tmp_path, width, height
):
    angles = np.linspace(0, 2 * np.pi, 300)
    z = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    cryodrgn.write_pickles(str(tmp_path / "z.pkl"), z)
    with running_server(open_explorer(ExploreSettings(run=str(tmp_path / "z.pkl")))) as server:
        seen = Visit(browser, server)
        seen.page.set_viewport_size({"width": width, "height": height})
        seen.wait_until_still("#frame")
        coloured = np.ptp(seen.picture("#frame")[..., :3].astype(int), axis=2) > 40
        assert overlaps(seen.page) == []
        seen.lasso([(0.1, 0.1), (0.5, 0.5)], mode="rectangle")
        seen.wait_for_selection()
        assert seen.page.evaluate(HIDDEN_WORDS, "selection-words") == 0
        seen.page.set_viewport_size({"width": 400, "height": height})  # as that of a phone
        seen.wait_until_still("#frame")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 400
        assert [found for found in overlaps(seen.page) if not found.startswith("out")] == []
        assert seen.errors == []
        seen.context.close()
    columns = np.flatnonzero(coloured.any(axis=0))
    rows = np.flatnonzero(coloured.any(axis=1))
    assert abs(np.ptp(rows) / np.ptp(columns) - 1) < 0.05  # all of the circle
