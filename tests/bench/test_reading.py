"""Reading a stack from a real S3 server beside one plain request."""

import pytest

from raydrgn.bench import reading
from raydrgn.bench.settings import PreparationSettings
from raydrgn.bench.tables import reading_rows
from raydrgn.errors import ConfigError
from raydrgn.io import storage


def test_both_rates_are_of_the_same_object_which_is_deleted(s3_folder):
    storage.write_bytes(f"{s3_folder}/mine", b"mine")
    settings = PreparationSettings(box=16, num_particles=40, folder=s3_folder)
    rates = reading.run(settings, s3_folder)
    assert rates.megabytes == pytest.approx(1e-6 * (1024 + 40 * 16 * 16 * 4))
    assert min(rates.reader, rates.plain, rates.share) > 0
    assert storage.list_names(s3_folder) == ["mine"]
    assert [name for name, _ in reading_rows(rates)][1:3] == [
        "raydrgn, in ranges",
        "one plain request",
    ]


def test_other_stores_are_refused():
    with pytest.raises(ConfigError, match="--folder memory://x is not on S3"):
        reading.run(PreparationSettings(box=16, num_particles=40), "memory://x")
