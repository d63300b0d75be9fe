"""What was opened: a run or a file of latents, or a project with its rounds; and its jobs."""

import shlex
from collections.abc import Callable
from threading import Lock
from typing import Any

from raydrgn.errors import ConfigError, RaydrgnError, RunDirectoryError
from raydrgn.explore.decoding import Decoding
from raydrgn.explore.explorer import Explorer
from raydrgn.explore.interfaces import Command, Commands, Filled, Project, Round
from raydrgn.explore.jobs import Jobs
from raydrgn.explore.run_files import KEPT, SELECTIONS, RunFiles
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.remote.jobs import PROGRAM
from raydrgn.run.project_steps import replaced_folders
from raydrgn.settings import NO_PROJECT

OpenRun = Callable[[Uri, Callable[[], int | None], Decoding], Explorer]
"""Opens a run; what is called with nothing returns the epoch to begin with."""


class OtherProposalError(RaydrgnError):
    """An answer is to another proposal than the one that waits."""


class Explored:
    """Answers what the page asks that is not about one run alone.

    Args:
        root: The run, the file of latents, or the project.
        epoch: Epoch to begin with; None takes the last whole one.
        open_run: Opens a run.
        decoding: Decodes volumes of all rounds.
        commands: What can be started; None starts nothing.
        project: The project, if it is one.
        server_url: Returns the address of the cluster's job server; None where there is none.
    """

    def __init__(
        self,
        root: Uri,
        epoch: int | None,
        open_run: OpenRun,
        *,
        decoding: Decoding,
        commands: Commands | None,
        project: Project | None,
        server_url: Callable[[], str | None],
    ) -> None:
        self._open_run, self._decoding = open_run, decoding
        self._commands, self._project = commands, project
        self._lock = Lock()  # of the runs that are opened: requests are answered in threads
        self._opened: dict[str, Explorer] = {}
        self._runs: dict[str, Uri] = {}  # of the rounds that are opened
        self._rounds: list[Round] = []
        if project is None:
            self._opened[""] = open_run(root, lambda: epoch, decoding)
            self.files = self._opened[""].files
        else:
            own = storage.join(project.root, "explore")
            self.files = RunFiles(project.root, own)
            if not self._read_rounds():
                raise RunDirectoryError(
                    f"{project.root} has no round of which an epoch is finished yet. Train first: "
                    f"{PROGRAM} protocol -o {shlex.quote(project.root)}"
                )
            self.run(self._latest())
        self.jobs = Jobs(self.files, server_url)

    def run(self, name: str) -> Explorer:
        """Return a round, opened; the last one whose training has ended where none is named.

        A round that was trained anew in another folder is opened anew.

        Raises:
            RaydrgnError: If there is none of this name, or it cannot be read.
        """
        name = name or self._latest()
        found = self._known(name) or (None if name in self._opened else self._round(name))
        if found is None and name not in self._opened:
            known = ", ".join(entry.name for entry in self._rounds) or "none"
            raise ConfigError(f"There is no round {name!r:.40}; there are: {known}.")
        with self._lock:
            if found is not None and self._runs.get(name) != found.run:
                self._opened[name] = self._open_run(
                    found.run, lambda: self._epoch_of(name), self._decoding
                )
                self._runs[name] = found.run
            return self._opened[name]

    def _latest(self) -> str:
        """Return the last round whose training has ended, or is under way if none has."""
        rounds = self._read_rounds()
        return ([r for r in rounds if r.epoch is not None] or rounds)[-1].name if rounds else ""

    def _round(self, name: str) -> Round | None:
        self._read_rounds()
        return self._known(name)

    def _known(self, name: str) -> Round | None:
        """Return a round as the project had it when it was read last."""
        return next((entry for entry in self._rounds if entry.name == name), None)

    def _epoch_of(self, name: str) -> int | None:
        """Return the epoch that the project goes on with now; None while a round trains."""
        found = self._round(name)
        return found.epoch if found is not None else None

    def _read_rounds(self) -> list[Round]:
        """Return the rounds of the project; those of before while it cannot be read."""
        try:
            self._rounds = self._project.rounds() if self._project else []
        except RaydrgnError:
            if not self._rounds:
                raise
        return self._rounds

    def status(self, name: str) -> dict[str, Any]:
        """Return what changes while the page is open."""
        self._read_rounds()
        run = self.run(name)
        found = run.status()
        found["run"] = run.source.root
        found["can_start"] = self._commands is not None
        found |= {"project": None, "round": name or self._latest()}
        if self._project is not None:
            try:
                pause = self._project.pause()
                found["project"] = {
                    "rounds": [entry.name for entry in self._read_rounds()],
                    "pause": pause and pause._asdict() | {"report": self.files.path(pause.report)},
                }
            except RaydrgnError as error:
                found["problem"] = found["problem"] or str(error)
        return found

    def place_of(self, name: str, path: str) -> str:
        """Return what the page calls a file of a round, as one of the project's.

        Raises:
            OutsideError: If the page may not have it, or it is not there.
        """
        return self.files.path(self.run(name).files.find(path))

    def results(self, name: str) -> dict[str, Any]:
        """Return the reports of a round and of its project, and what has been saved."""
        found = self.run(name).results() | {"project_reports": []}
        if self._project is not None:
            own = {storage.name(entry.run) for entry in self._rounds}
            replaced = replaced_folders(self._project.root)
            found["project_reports"] = self.files.reports(leave_out=own | replaced)
        return found

    def forms(self, name: str) -> dict[str, Any]:
        """Return the commands that can be started, and the values that their fields must have."""
        forms = [] if self._commands is None else self._commands.forms()
        return {"forms": [{**form, "fixed": self._fixed(form["name"], name)} for form in forms
                          if form["name"] != "protocol" or self._project is not None]}  # fmt: skip

    def command(self, name: str, command: str, filled: Filled) -> Command:
        """Return a command that works on a round, and writes below what was opened.

        It takes what is not given from the project that was opened, or from none: what holds does
        not depend on the folder that the explorer was started in.

        Raises:
            ConfigError: As the command line would word it; or if it would write elsewhere.
        """
        if self._commands is None:
            raise ConfigError("Nothing can be started from this page.")
        fields = {f["name"] for form in self._commands.forms() if form["name"] == command
                  for f in form["fields"]}  # fmt: skip
        fixed = self._fixed(command, name)
        own = {**filled, **{field: value for field, value in fixed.items() if field in fields}}
        found = self._commands.command(command, own, base=self.files.root)
        for option, place in found.written.items():
            self.files.require_below(place, option)
        return found

    def answer(self, selection: str | None, key: str) -> None:
        """Answer the pause of the project, which `raydrgn protocol` then goes on from.

        Args:
            selection: Name of a saved selection of the round that waits; None agrees to what is
                proposed.
            key: Of the proposal that the answer is to.

        Raises:
            OtherProposalError: If another one waits now.
            ConfigError: If nothing waits, or there is no such selection.
        """
        if self._project is None:
            raise ConfigError("Nothing waits for an answer.")
        pause = self._project.pause()
        if pause is None:
            raise ConfigError(
                "Nothing waits for an answer: no junk was found, or raydrgn protocol has gone on "
                "from the answer that it has. To drop other clusters, and make again what comes "
                f"after: raydrgn protocol -o {shlex.quote(self._project.root)} --drop 3,11"
            )
        if pause.key != key:
            raise OtherProposalError(
                "This answer is to an earlier proposal; raydrgn protocol has made another since. "
                f"Read what it proposes now for round {pause.round}, and answer again."
            )
        kept = None
        if selection is not None:
            files = self.run(pause.round).files
            if selection not in files.names(SELECTIONS):
                raise ConfigError(f"Round {pause.round} has no saved selection {selection!r:.80}.")
            kept = storage.join(files.at(SELECTIONS, selection), KEPT)
        self._project.answer(pause, kept)

    def close(self) -> None:
        """End the decoders, and the commands that were started."""
        self.jobs.close()
        self._decoding.close()

    def _fixed(self, command: str, name: str) -> dict[str, str]:
        """Return the values that a person cannot change: what a command works on."""
        if command == "protocol":
            return {"out": self._project.root} if self._project else {}
        project = self._project.root if self._project else NO_PROJECT
        return {"run": self.run(name).source.root, "project": project}
