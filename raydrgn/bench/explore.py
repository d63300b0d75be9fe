"""The explorer with many particles: how soon it is ready, what it sends, how fast it selects.

The server is a process of its own, as a user starts it, on a file of made-up latents; requests are
those of the page. Where Chromium and playwright are installed, a browser draws the page too.
"""

import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from raydrgn.bench.settings import ExploreBenchSettings
from raydrgn.errors import ConfigError
from raydrgn.remote.progress import Progress, silent

ZDIM = 8
CLUSTERS = 6
SELECTIONS = 5
CORNERS = 64
BROWSER_SECONDS = 300
COLUMNS = ("pc1", "pc2", "z_norm")
"""What the page asks for first, of latents without a UMAP."""

MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ExploreRates:
    """What the explorer takes; times in seconds."""

    printed: float
    """From the start of the command until the address of the page is printed."""

    answered: float
    """From then until all that the page begins with has been answered."""

    sent_megabytes: float
    """Size of these answers."""

    first_draw: float | None
    """From opening the page in a browser until the points are drawn; None without a browser."""

    lasso: float
    """From a polygon to the answer which particles are inside; median."""

    memory_megabytes: float
    """Largest memory of the server."""


def run(settings: ExploreBenchSettings, *, progress: Progress = silent) -> ExploreRates:
    """Start the explorer on made-up latents, and ask what the page asks.

    Raises:
        ConfigError: If the explorer does not start; with its message.
    """
    steps = ("latents", "start", "page", "selections", "browser")
    done = iter(range(1, len(steps) + 1))

    def advance() -> None:
        number = next(done)
        progress(steps[number - 1], number, len(steps), unit="steps")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "z.npy")
        np.save(file, made_up_latents(settings.num_particles))
        advance()
        began = time.perf_counter()
        with _explorer(file) as (process, address):
            printed = time.perf_counter() - began
            advance()
            page = _Page(address)
            began = time.perf_counter()
            sent = page.begin()
            answered = time.perf_counter() - began
            advance()
            lasso = median(page.select(number) for number in range(SELECTIONS))
            advance()
            first_draw = draw_in_browser(page.url)
            advance()
            memory = _peak_megabytes(process.pid)
    return ExploreRates(
        printed=printed,
        answered=answered,
        sent_megabytes=sent / MEGABYTE,
        first_draw=first_draw,
        lasso=lasso,
        memory_megabytes=memory,
    )


def made_up_latents(count: int) -> np.ndarray:
    """Return seeded latents of some clusters, (n, zdim)."""
    random = np.random.default_rng(0)
    centres = 4 * random.normal(size=(CLUSTERS, ZDIM)).astype(np.float32)
    z = random.standard_normal((count, ZDIM), dtype=np.float32)
    z += centres[random.integers(CLUSTERS, size=count)]
    return z


@contextmanager
def _explorer(file: Path) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Have the explorer run for the length of a block; yield it, and the address it has printed."""
    words = [sys.executable, "-m", "raydrgn", "explore", str(file)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "/?token=" in line:
                break
        else:
            raise ConfigError(f"The explorer did not start: {' '.join(lines).strip()}")
        try:
            yield process, lines[-1].split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


class _Page:
    """Asks what the page asks."""

    def __init__(self, address: str) -> None:
        self.url = address
        parts = urlsplit(address)
        self._host = parts.netloc
        self._headers = {"Host": self._host}
        answer, _ = self._ask(f"/?{parts.query}")
        self._headers["Cookie"] = answer.headers["Set-Cookie"].split(";")[0]

    def begin(self) -> int:
        """Ask what the page begins with; return the bytes that were sent."""
        paths = ["/", "/assets/page.js", "/assets/page.css", "/api/facts", "/api/points"]
        paths += [f"/api/column?name={name}" for name in COLUMNS]
        return sum(len(self._ask(path)[1]) for path in paths)

    def select(self, number: int) -> float:
        """Select by a polygon; return the seconds until the answer is there."""
        angle = np.arange(CORNERS) * 2 * np.pi / CORNERS
        corners = (3 + number) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        inside = {"x": COLUMNS[0], "y": COLUMNS[1], "corners": corners.tolist()}
        body = {"conditions": [{"join": "and", "inside": inside}]}
        began = time.perf_counter()
        self._ask("/api/select", body)
        return time.perf_counter() - began

    def _ask(self, path: str, body: Any = None) -> tuple[http.client.HTTPResponse, bytes]:
        headers, content = dict(self._headers), None
        if body is not None:
            headers |= {"Content-Type": "application/json", "Origin": f"http://{self._host}"}
            content = json.dumps(body)
        with closing(http.client.HTTPConnection(self._host)) as connection:
            connection.request("POST" if content else "GET", path, content, headers)
            answer = connection.getresponse()
            found = answer.read()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise ConfigError(f"{path} was answered with {answer.status}: {found[:200]!r}")
        return answer, found


def draw_in_browser(address: str) -> float | None:
    """Return how long a browser takes from opening the page until its points are drawn.

    Args:
        address: Of the page, with its token.

    Returns:
        Seconds; None without Chromium or playwright.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    if chromium is None:
        return None
    with sync_playwright() as started:
        words = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = started.chromium.launch(executable_path=chromium, args=words)
        page = browser.new_page()
        began = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("body[data-ready]", timeout=1000 * BROWSER_SECONDS)
        seconds = time.perf_counter() - began
        browser.close()
    return seconds


def _peak_megabytes(pid: int) -> float:
    """Return the largest memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kilobytes) * 1024 / MEGABYTE
