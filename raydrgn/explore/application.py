"""The routes of the explorer: from requests to an ``Explorer``, and from its answers to bytes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.explore.decoding import BusyError, OvertakenError
from raydrgn.explore.explored import Explored, OtherProposalError
from raydrgn.explore.explorer import Explorer
from raydrgn.explore.packing import packed
from raydrgn.explore.requests import (
    AnswerRequest,
    CommandRequest,
    ImageRequest,
    JobRequest,
    SaveSelectionRequest,
    SaveVolumesRequest,
    SelectRequest,
    VolumeRequest,
    parse,
)
from raydrgn.explore.run_files import TYPES, OutsideError
from raydrgn.explore.session import Guard, Session
from raydrgn.explore.study import Study
from raydrgn.io import storage
from raydrgn.io.uri import name as name_of

log = logging.getLogger(__name__)

ASSETS = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    **dict.fromkeys(("page.js", "surface.js", "cubes.js"), "text/javascript; charset=utf-8"),
}
"""Files of the page; every other name is refused."""

STATUS = {
    OtherProposalError: HTTPStatus.CONFLICT,
    OvertakenError: HTTPStatus.CONFLICT,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    OutsideError: HTTPStatus.NOT_FOUND,
}

# A report may be of a run that somebody else has made: it shows its pictures, and runs nothing.
# Of another origin, its links would come without the cookie.
REPORT_POLICY = (
    "sandbox allow-same-origin allow-downloads; "
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
)
BLOCK_BYTES = 1 << 20
MOST_DIGITS = 9  # of a number in an address

Endpoint = Callable[[Request], Awaitable[Response]]


def create_application(explored: Explored, session: Session) -> Guard:
    """Build the application for one run or project."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(explored.close)

    endpoints = _Endpoints(explored)
    return Guard(Starlette(routes=endpoints.routes(), lifespan=lifespan), session)


def _get(path: str, endpoint: Endpoint) -> Route:
    return Route(path, _in_words(endpoint), methods=["GET"])


def _post(path: str, endpoint: Endpoint) -> Route:
    return Route(path, _in_words(endpoint), methods=["POST"])


class _Endpoints:
    """An endpoint for each route. What takes long is done in a thread."""

    def __init__(self, explored: Explored) -> None:
        self._explored = explored

    def routes(self) -> list[Route]:
        """Return the routes, each to its endpoint."""
        return [
            _get("/", self.page),
            _get("/assets/{name}", self.asset),
            _get("/favicon.ico", self.icon),
            _get("/files/{path:path}", self.file),
            _get("/api/facts", self.facts),
            _get("/api/status", self.status),
            _get("/api/column", self.column),
            _get("/api/points", self.points),
            _get("/api/density", self.density),
            _get("/api/results", self.results),
            _get("/api/drawn", self.drawn),
            _get("/api/losses", self.losses),
            _post("/api/select", self.select),
            _post("/api/volumes", self.volumes),
            _post("/api/images", self.images),
            _post("/api/save-selection", self.save_selection),
            _post("/api/save-volumes", self.save_volumes),
            _get("/api/jobs", self.jobs),
            _get("/api/job-log", self.job_log),
            _get("/api/forms", self.forms),
            _post("/api/command", self.command),
            _post("/api/start", self.start),
            _post("/api/stop", self.stop),
            _post("/api/answer", self.answer),
        ]

    async def page(self, request: Request) -> Response:
        return _asset("index.html")

    async def asset(self, request: Request) -> Response:
        return _asset(request.path_params["name"])

    async def icon(self, request: Request) -> Response:
        return Response(status_code=HTTPStatus.NO_CONTENT)  # browsers ask for it beside reports

    async def file(self, request: Request) -> Response:
        path = request.path_params["path"]
        if "round" in request.query_params:  # links in a report lead to files beside it
            place = await run_in_threadpool(self._explored.place_of, _round(request), path)
            return RedirectResponse(f"/files/{quote(place)}")

        def find() -> tuple[str, int]:
            found = self._explored.files.find(path)
            return found, storage.file_size(found)

        uri, size = await run_in_threadpool(find)
        suffix = f".{uri.rpartition('.')[2].lower()}"
        headers = {"Content-Security-Policy": REPORT_POLICY}
        if suffix not in (".html", ".png", ".gif", ".svg"):
            name = quote(name_of(uri), safe="")  # headers are Latin-1, and a quote would end it
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
        return StreamingResponse(_blocks(uri, size), media_type=TYPES[suffix], headers=headers)

    async def facts(self, request: Request) -> Response:
        return await _json(lambda: self._run(request).facts(_epoch(request)))

    async def status(self, request: Request) -> Response:
        return await _json(lambda: self._explored.status(_round(request)))

    async def column(self, request: Request) -> Response:
        def work() -> bytes:
            facts, values = self._study(request).column(_given(request, "name"))
            return packed(facts, values=values)

        return await _binary(work)

    async def points(self, request: Request) -> Response:
        def work() -> bytes:
            study = self._study(request)
            return packed({}, rows=study.shown.astype(np.int32), numbers=study.numbers())

        return await _binary(work)

    async def density(self, request: Request) -> Response:
        def work() -> bytes:
            limits, counts = self._study(request).density(
                _given(request, "x"), _given(request, "y")
            )
            return packed(limits, counts=counts)

        return await _binary(work)

    async def select(self, request: Request) -> Response:
        given = parse(SelectRequest, await request.body())

        def work() -> bytes:
            facts, bits = self._run(request).select(given)
            return packed(facts, bits=bits)

        return await _binary(work)

    async def volumes(self, request: Request) -> Response:
        given = parse(VolumeRequest, await request.body())
        explorer = await run_in_threadpool(self._run, request)
        facts, made = await explorer.volumes(given)

        def work() -> bytes:
            largest = [max(float(np.abs(volume).max()), 1e-30) for volume in made]
            scaled = made / np.array(largest, dtype=np.float32)[:, None, None, None]
            # A smaller box keeps the sum of voxels; the page shows densities of the run's own box.
            ratio = (facts["box"] / facts["run_box"]) ** 3
            facts["scale"] = [ratio * value for value in largest]
            facts["sd"] = [ratio * float(volume.std()) for volume in made]
            return packed(facts, volumes=scaled.astype(np.float16))

        return await _binary(work)

    async def images(self, request: Request) -> Response:
        given = parse(ImageRequest, await request.body())

        def work() -> bytes:
            from raydrgn.explore.images import particle_images  # loads torch

            study = self._run(request).study(given.epoch)
            images, mean = particle_images(study, given.rows, given.kind)
            numbers = study.values.numbers[given.rows].astype(np.int32)
            return packed({}, images=images, mean=mean, numbers=numbers)

        return await _binary(work)

    async def results(self, request: Request) -> Response:
        return await _json(lambda: self._explored.results(_round(request)))

    async def drawn(self, request: Request) -> Response:
        return await _json(lambda: self._run(request).drawn(_epoch(request)))

    async def losses(self, request: Request) -> Response:
        return await _json(lambda: self._run(request).losses())

    async def save_selection(self, request: Request) -> Response:
        given = parse(SaveSelectionRequest, await request.body())
        return await _json(lambda: self._run(request).save_selection(given))

    async def save_volumes(self, request: Request) -> Response:
        given = parse(SaveVolumesRequest, await request.body())
        return await _json(lambda: self._run(request).save_volumes(given))

    async def jobs(self, request: Request) -> Response:
        return await _json(self._explored.jobs.listed)

    async def job_log(self, request: Request) -> Response:
        return await _json(lambda: {"text": self._explored.jobs.log(_given(request, "id"))})

    async def forms(self, request: Request) -> Response:
        return await _json(lambda: self._explored.forms(_round(request)))

    async def command(self, request: Request) -> Response:
        given = parse(CommandRequest, await request.body())

        def work() -> dict[str, str]:
            try:
                command = self._explored.command(_round(request), given.name, given.filled)
            except ConfigError as error:  # a form that is not filled in yet is no failure
                return {"command": "", "problem": str(error), "deleted": ""}
            typed = self._explored.jobs.typed(command)
            return {"command": typed, "problem": "", "deleted": command.deleted}

        return await _json(work)

    async def start(self, request: Request) -> Response:
        given = parse(CommandRequest, await request.body())

        def work() -> dict[str, str]:
            command = self._explored.command(_round(request), given.name, given.filled)
            return {"id": self._explored.jobs.start(command)}

        return await _json(work)

    async def stop(self, request: Request) -> Response:
        given = parse(JobRequest, await request.body())
        return await _json(lambda: self._explored.jobs.stop(given.id))

    async def answer(self, request: Request) -> Response:
        given = parse(AnswerRequest, await request.body())
        return await _json(lambda: self._explored.answer(given.selection, given.key))

    def _run(self, request: Request) -> Explorer:
        return self._explored.run(_round(request))

    def _study(self, request: Request) -> Study:
        return self._run(request).study(_epoch(request))


def _round(request: Request) -> str:
    return request.query_params.get("round", "")


def _epoch(request: Request) -> int | None:
    text = request.query_params.get("epoch", "")
    if text and not (text.isdecimal() and len(text) <= MOST_DIGITS):
        raise ConfigError(f"An epoch is a number, got {text!r:.40}.")
    return int(text) if text else None


def _in_words(endpoint: Endpoint) -> Endpoint:
    """Answer what goes wrong with a sentence that the page shows."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RaydrgnError as error:
            status = STATUS.get(type(error), HTTPStatus.BAD_REQUEST)
            return JSONResponse({"error": str(error)}, status_code=status)
        except asyncio.CancelledError:  # the server ends
            return JSONResponse({}, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        except Exception as error:
            log.exception("%s %s failed", request.method, request.url.path)
            message = (
                f"This is a defect of raydrgn ({type(error).__name__}: {error}). Its traceback is "
                "where `raydrgn explore` was started."
            )
            return JSONResponse({"error": message}, status_code=HTTPStatus.INTERNAL_SERVER_ERROR)

    return answer


def _asset(name: str) -> Response:
    if name not in ASSETS:
        raise OutsideError(f"The page has no file {name!r:.80}.")
    content = files("raydrgn.explore").joinpath("assets", name).read_bytes()
    return Response(content, media_type=ASSETS[name])


async def _json(work: Callable[[], Any]) -> Response:
    found = await run_in_threadpool(work)
    return JSONResponse({} if found is None else found)


async def _binary(work: Callable[[], bytes]) -> Response:
    return Response(await run_in_threadpool(work), media_type="application/octet-stream")


async def _blocks(uri: str, size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, BLOCK_BYTES):
        end = min(start + BLOCK_BYTES, size)
        yield await run_in_threadpool(storage.read_bytes, uri, start, end)


def _given(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if value is None:
        raise ConfigError(f"The request lacks {name!r}.")
    return value
