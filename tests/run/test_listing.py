"""The runs below a folder."""

from raydrgn.errors import StorageError
from raydrgn.run import listing
from raydrgn.run.listing import find_runs


def test_a_folder_that_may_not_be_read_is_skipped_with_a_warning(tmp_path, monkeypatch, caplog):
    for name in ("a", "locked", "z"):
        (tmp_path / name).mkdir()
    for name in ("a", "z"):
        for file in ("config.yaml", "manifest.json"):
            (tmp_path / name / file).touch()
    monkeypatch.setattr(listing, "is_run", lambda names: "config.yaml" in names)
    original = listing.storage.explained

    def explained(uri, *, action):
        if uri.endswith("locked"):
            raise StorageError(f"{uri} may not be read; check its permissions.")
        return original(uri, action=action)

    monkeypatch.setattr(listing.storage, "explained", explained)
    assert list(find_runs(str(tmp_path))) == [str(tmp_path / "a"), str(tmp_path / "z")]
    assert "locked is skipped" in caplog.text
