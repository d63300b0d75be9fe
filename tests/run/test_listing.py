"""The runs below a folder."""

from raydrgn.data.config import ImageConfig
from raydrgn.errors import StorageError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.config import ModelConfig
from raydrgn.run import listing
from raydrgn.run.config import RunConfig
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


def test_selections_are_not_looked_for_in_another_store(monkeypatch):
    """Which may not answer, and is asked for a minute."""
    asked = []
    monkeypatch.setattr(listing.storage, "list_names", lambda uri: asked.append(uri) or [])
    source = ParticleSource(particles="s3://lab/d/particles.star", ind="/data/kept.pkl")
    config = RunConfig(
        source=source, data=ImageConfig(box=8), pixel_size_angstrom=2.0, model=ModelConfig()
    )
    assert listing._origins(config, "/data/run") == []
    assert asked
    assert not [uri for uri in asked if uri.startswith("s3:")]
    monkeypatch.setattr(listing.storage, "list_names", refuse)
    assert listing._origins(config, "/data/run") == []


def refuse(uri):
    raise StorageError(f"{uri} may not be read; check its permissions.")
