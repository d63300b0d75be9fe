"""Names that people give to selections and volumes, in any script."""

import shlex
import unicodedata
from urllib.parse import quote

import pytest

from explorer_server import analysed_run, running_server
from raydrgn.explore.run_files import is_name
from raydrgn.io import cryodrgn
from raydrgn.workflows.explore import ExploreSettings, open_explorer

SOME = [{"join": "and", "range": {"column": "original", "low": 0, "high": 9}}]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return analysed_run(tmp_path_factory.mktemp("named"))


@pytest.fixture(scope="module")
def server(root):
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as found:
        yield found


@pytest.mark.parametrize("name", ["größe_2", "Кластер-3", "開いた状態", "أولى", "แบบที่1"])
def test_letters_of_any_script_name_a_selection(server, root, name):
    body = {"epoch": 2, "conditions": SOME, "name": unicodedata.normalize("NFD", name)}
    saved = server.json("/api/save-selection", body)
    name = unicodedata.normalize("NFC", name)
    assert saved["name"] == name
    kept = root / "explore/selections" / name / "kept.ind.pkl"
    assert len(cryodrgn.read_indices(str(kept))) == 10
    words = shlex.split(saved["train"])
    assert words[words.index("--ind") + 1] == str(kept)
    assert name in [entry["name"] for entry in server.json("/api/results")["selections"]]
    path = quote(f"explore/selections/{name}/kept.ind.pkl")
    assert server.ask(f"/files/{path}")[2] == kept.read_bytes()
    assert f"There is {name!r} already" in server.refusal("/api/save-selection", body)[1]


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".a", "-a", "_a", "a b", "a/b", "a\\b", "a\0b", "a\nb", "a:b", "a*b",
        "a\u202eb", "a\u200bb", "a\ud800", "\u0301a", "e\u0301", "a" * 65, "開" * 67, "😀", "％2e",
    ],
)  # fmt: skip
def test_what_is_no_letter_or_too_long_is_no_name(name):
    assert not is_name(name)


def test_a_long_name_leaves_room_for_an_ending():
    assert is_name("開" * 64)
    assert len(("開" * 64 + ".z.txt").encode()) <= 255
    assert is_name("a" * 64)
