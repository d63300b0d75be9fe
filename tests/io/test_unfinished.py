"""Parts of files that killed processes have left."""

from uuid import uuid4

from raydrgn.io.unfinished import remove_unfinished


def test_only_unfinished_parts_of_the_files_named_are_deleted(tmp_path):
    mine = tmp_path / f"vol_000.mrc.{uuid4().hex}.part"
    others = [
        tmp_path / "vol_000.mrc",
        tmp_path / f"vol_001.mrc.{uuid4().hex}.part",
        tmp_path / f"other_vol_000.mrc.{uuid4().hex}.part",
        tmp_path / "vol_000.mrc.part",
        tmp_path / "vol_000.mrc.notes.part",
    ]
    for path in (mine, *others):
        path.write_text("")
    remove_unfinished([str(tmp_path / "vol_000.mrc"), "memory://bucket/vol_000.mrc"])
    assert sorted(tmp_path.iterdir()) == sorted(others)
