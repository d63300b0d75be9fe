"""Which particles are proposed to be junk, by a rule on numbers that a person can check."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from raydrgn.clustering.clusters import mixture
from raydrgn.io import cryodrgn
from raydrgn.latent.filters import REFERENCE_SD, Method, by_magnitude, by_null, overlaps
from raydrgn.mfa.config import SHOWS_NOTHING
from raydrgn.protocol.cluster_numbers import ClusterNumbers
from raydrgn.reporting.report import ReportTable
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Bool, Float, Int

MOST = 0.5
"""Share of a cluster's particles above which they are most of them."""

LEAST_PEAK = 0.5
"""Peak of a cluster's volume, over the median of all particles', below which it is junk."""

LEAST_AGREEMENT = 0.5
FAR_SD = 2.0

FEWEST_KEPT = 0.1
"""Share of the particles below which nothing is left to go on with."""

COMPONENTS = 3
"""Of the Gaussian mixture that is compared, as in the paper."""

NULL_RULE = (
    f"A particle is proposed if it shows nothing with a probability of more than {SHOWS_NOTHING:g} "
    "by the mixture of factor analysers. "
)
CLUSTER_RULE = (
    f"A cluster is proposed if the peak density of its volume is less than {LEAST_PEAK:g} times "
    "the median of this peak over all particles; or if half sets of its particles do not agree (a "
    f"mean FSC of less than {LEAST_AGREEMENT:g} at low resolution) and its mean |z| is more than "
    f"{FAR_SD:g} SD above that of all particles."
)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What is proposed, and the numbers behind it."""

    numbers: Sequence[ClusterNumbers]
    reasons: dict[int, str]
    """Why each of the proposed clusters is, by its number."""

    methods: Sequence[Method]
    """Ways to find junk, with the particles that each keeps; those proposed come first."""

    kept: Bool[np.ndarray, " n"]

    has_latents: bool = True
    """Whether the images determine any latent; clusters mean nothing without, and none is proposed.
    """

    @property
    def clusters(self) -> list[int]:
        """Clusters that are proposed as a whole."""
        return list(self.reasons)

    def reason(self, numbers: ClusterNumbers) -> str:
        """Return why most particles of a cluster are proposed, in words; empty if they are not."""
        if numbers.cluster in self.reasons:
            return self.reasons[numbers.cluster]
        return "shows nothing" if (numbers.shows_nothing or 0) > MOST else ""


def junk_clusters(
    numbers: Sequence[ClusterNumbers], magnitude: Float[np.ndarray, " n"]
) -> dict[int, str]:
    """Return the clusters that the rule proposes, and why; see ``CLUSTER_RULE``.

    Args:
        numbers: Of all clusters.
        magnitude: |z| of every particle.
    """
    peaks = np.repeat([n.peak for n in numbers], [n.particles for n in numbers])
    typical = float(np.median(peaks))
    far = float(magnitude.mean() + FAR_SD * magnitude.std())
    found = {}
    for n in numbers:
        if n.peak < LEAST_PEAK * typical:
            found[n.cluster] = f"peak density {n.peak:.2g}, where {typical:.2g} is typical"
        elif n.particles > 1 and n.agreement < LEAST_AGREEMENT and n.magnitude > far:
            found[n.cluster] = (
                f"half sets agree to {max(n.agreement, 0):.2f}, and |z| is {n.magnitude:.1f}"
            )
    return found


def propose(
    numbers: Sequence[ClusterNumbers],
    z: Float[np.ndarray, "n zdim"],
    labels: Int[np.ndarray, " n"],
    null: Float[np.ndarray, " n"] | None,
    *,
    has_latents: bool = True,
) -> Proposal:
    """Return what is proposed to be junk, beside what other methods would drop.

    Args:
        numbers: Of all clusters.
        z: Latents.
        labels: Cluster of each particle.
        null: Probability of each particle to show nothing; None by the autoencoder.
        has_latents: Whether the images determine any latent.
    """
    magnitude = np.linalg.norm(z.astype(np.float64), axis=1)
    reasons = junk_clusters(numbers, magnitude) if has_latents else {}
    by_cluster = Method("clusters", ~np.isin(labels, list(reasons)))
    methods = [by_cluster]
    if null is not None:
        methods.insert(0, by_null(null, SHOWS_NOTHING))
    kept = np.logical_and.reduce([method.kept for method in methods])
    if len(methods) > 1:
        methods.append(Method("all proposed", kept))
    if len(z) >= 10 * COMPONENTS:
        components = mixture(z, COMPONENTS)
        means = [magnitude[components.labels == k].mean() for k in range(COMPONENTS)]
        far = int(np.argmax(means))
        methods.append(
            Method(f"mixture of {COMPONENTS}, component of largest |z|", components.labels != far)
        )
    methods.append(by_magnitude(z, REFERENCE_SD))
    return Proposal(
        numbers=numbers, reasons=reasons, methods=methods, kept=kept, has_latents=has_latents
    )


def cluster_table(proposal: Proposal) -> ReportTable:
    """Return the numbers of all clusters as text, those proposed marked."""
    has_null = proposal.numbers[0].shows_nothing is not None
    head = [
        *("cluster", "particles", "share", "|z|", "peak", "total", "noise", "half sets"),
        *("resolution, Å", *(["shows nothing"] if has_null else []), "proposed as junk"),
    ]
    rows = []
    for n in proposal.numbers:
        reached = "–" if n.resolution_angstrom is None else f"{n.resolution_angstrom:.1f}"
        nothing = [] if n.shows_nothing is None else [f"{100 * n.shows_nothing:.0f} %"]
        rows.append(
            (
                *(str(n.cluster), f"{n.particles:,}", f"{100 * n.share:.1f} %"),
                *(f"{n.magnitude:.2f}", f"{n.peak:.3g}", f"{n.total:.0f}", f"{n.noise:.2g}"),
                *(f"{n.agreement:.2f}", reached, *nothing, proposal.reason(n)),
            )
        )
    return ReportTable(head=head, rows=rows)


def overlap_table(proposal: Proposal) -> ReportTable:
    """Return how many particles each pair of methods drops."""
    rows = [
        (first, second, *(f"{n:,}" for n in counts), f"{jaccard:.2f}")
        for first, second, *counts, jaccard in overlaps(proposal.methods)
    ]
    head = ("method", "other", "dropped", "dropped by the other", "by both", "Jaccard")
    return ReportTable(head=head, rows=rows)


def write_proposal(
    proposal: Proposal, numbers: Int[np.ndarray, " n"], folder: ResultFolder
) -> None:
    """Write the numbers of clusters, the overlaps, and the particles as tables."""
    names = list(asdict(proposal.numbers[0]))
    folder.write_table(
        "clusters.csv",
        (*names, "proposed"),
        [
            (
                *("" if (value := getattr(n, name)) is None else value for name in names),
                n.cluster in proposal.reasons,
            )
            for n in proposal.numbers
        ],
    )
    head = ("method", "other", "dropped", "dropped_by_other", "by_both", "jaccard")
    folder.write_table("overlap.csv", head, overlaps(proposal.methods))
    cryodrgn.write_indices(folder.at("proposed.ind.pkl"), numbers[~proposal.kept])
