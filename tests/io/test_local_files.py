"""Second names of local files."""

import os

from raydrgn.io import storage


def test_a_name_is_given_where_nfs_repeats_a_request_whose_answer_was_lost(tmp_path, monkeypatch):
    link = os.link

    def link_twice(*names):
        link(*names)
        link(*names)  # EEXIST by its own first request

    monkeypatch.setattr(os, "link", link_twice)
    uri = str(tmp_path / "claim.json")
    assert storage.create_exclusively(uri, b"first")
    assert not storage.create_exclusively(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert os.listdir(tmp_path) == ["claim.json"]
