"""The bench of passes: what it counts."""

from raydrgn.bench import em
from raydrgn.bench.settings import EmSettings
from raydrgn.bench.tables import em_rows


def test_rates_are_of_the_points_of_the_box(monkeypatch):
    monkeypatch.setattr(em, "ROUNDS", 1)
    monkeypatch.setattr(em, "COPIED_BYTES", 1 << 20)
    rates = em.run(EmSettings(box=16, components=3, batch_size=8, threads=1))
    assert rates.points == 96  # half of the 193 points nearer than 8, without the origin
    assert rates.gather_bytes == 96 * 8 * 4 * 9
    assert min(rates.gathered_per_s, rates.inserted_per_s, rates.posterior_per_s) > 0
    assert dict(em_rows(rates))["grid of sums"] == "0 MB"
