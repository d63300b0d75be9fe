"""The explorer's page in a real browser: Debian's Chromium, driven by playwright."""

import io
import json
import math
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIZE = {"width": 1280, "height": 720}
SECONDS = 60_000
CONTROLS = "header > *, section button, section select, section input, #hover, .axis, .row > *"


@contextmanager
def started_browser():
    """Have a browser for the length of a block; tests are skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        found = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


def wait_until(page, expression, arg=None, seconds=60):
    """Wait until an expression is true; playwright would compile it, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(100)


@contextmanager
def folder_of_run(factory, name):
    """Have a new folder for the length of a block; with a short name where pictures are saved."""
    if not os.environ.get("RAYDRGN_SCREENSHOTS"):
        yield factory.mktemp(name)
        return
    folder = Path(tempfile.gettempdir(), name)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def save_picture(page, name):
    """Save what is seen for docs/explorer.md, where RAYDRGN_SCREENSHOTS names a folder."""
    folder = os.environ.get("RAYDRGN_SCREENSHOTS")
    if folder:
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        small = picture.quantize(
            256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )  # keeps the colours of few pixels, which are those of classes
        small.putpalette(_commonest(np.asarray(picture), np.asarray(small)))
        small.save(Path(folder) / f"explorer_{name}.png", optimize=True)


def _commonest(picture, places):
    """Return for each place of a palette the commonest of the colours that it stands for.

    Pillow takes their mean, which gives white and the panels a tinge that differs from picture to
    picture.
    """
    palette = np.zeros((256, 3), np.uint8)
    for place in np.unique(places):
        colours, counts = np.unique(picture[places == place], axis=0, return_counts=True)
        palette[place] = colours[counts.argmax()]
    return palette.ravel().tolist()


class Visit:
    """A page that is open, with what its browser has said and asked."""

    def __init__(self, browser, server, *, script="", **options):
        self.context = browser.new_context(viewport=SIZE, **options)
        self.context.add_init_script(script)
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS)
        self.errors, self.asked, self.selections = [], [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", self._watch)
        self.page.goto(server.address)
        self.page.wait_for_selector("body[data-ready]")

    def _hear(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def _watch(self, request):
        self.asked.append(request.url)
        if request.url.endswith("/api/select"):
            self.selections.append(json.loads(request.post_data))

    def text(self, name):
        return self.page.inner_text(f"#{name}")

    def picture(self, selector):
        return np.asarray(Image.open(io.BytesIO(self.page.locator(selector).screenshot())))

    def wait_for_change(self, selector, before):
        """Wait until a picture is another than before."""
        end = time.monotonic() + SECONDS / 1000
        while np.array_equal(self.picture(selector), before):
            assert time.monotonic() < end, "the picture stays as it is"
            self.page.wait_for_timeout(100)

    def wait_until_still(self, selector):
        """Wait until a picture that is drawn anew after a change of its size stays as it is."""
        end, seen = time.monotonic() + SECONDS / 1000, None
        while not np.array_equal(self.picture(selector), seen):
            assert time.monotonic() < end, "the picture goes on changing"
            seen = self.picture(selector)
            self.page.wait_for_timeout(800)

    def lasso(self, corners, mode="lasso"):
        """Draw along corners, given as shares of the plot's width and height."""
        box = self.page.locator("#frame").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        self.page.click(f"[data-mode={mode}]")
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()

    def wait_for_selection(self):
        wait_until(
            self.page, "document.getElementById('selection-count').textContent.includes(' of ')"
        )

    def volume(self, number):
        self.page.fill("#go-number", str(number))
        self.page.click("#go button")
        wait_until(
            self.page, "document.getElementById('volume-status').textContent.includes('px;')"
        )
        self.page.wait_for_selector("#volume-surface[data-triangles]")


def ring(x, y, size):
    angles = [2 * math.pi * k / 24 for k in range(24)]
    return [(x + size * math.cos(angle), y + size * math.sin(angle)) for angle in angles]


def overlaps(page):
    """Return pairs of controls that lie on each other, and those that leave the window."""
    return page.evaluate(
        """(selector) => {
        const found = [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
        const box = new Map(found.map((e) => [e, e.getBoundingClientRect()]));
        const bad = [];
        for (const [a, p] of box) {
          if (!p.width || a.closest('.classes, #images, ul, #volume-chosen, #job-fields')) continue;
          const name = (e) => e.id || e.textContent.trim().slice(0, 30) || e.tagName;
          if (p.right > innerWidth + 1 || p.bottom > innerHeight + 1) bad.push(`out: ${name(a)}`);
          for (const [b, q] of box) {
            if (a === b || a.contains(b) || b.contains(a) || !q.width) continue;
            if (b.closest('#job-fields')) continue;  // may be scrolled out of its box
            const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
            const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
            if (wide > 1 && high > 1) bad.push(`${name(a)} on ${name(b)}`);
          }
        }
        return bad;
      }""",
        CONTROLS,
    )
