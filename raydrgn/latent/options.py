"""How particles are selected: methods, of which at least one is given; how paths are spaced.

Loads nothing heavy.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from raydrgn.errors import ConfigError
from raydrgn.settings import Setting, check_bounds, whole_numbers

Spacing = Literal["even", "percentile"]
"""Of points along a component: equal distances, or equally many particles between them."""

NAME = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """Methods that select particles; a particle is kept if all of them keep it."""

    keep_clusters: Annotated[
        str | None,
        Setting("Clusters of analyze, or of --labels, to keep, such as 0,3,8-12.", is_list=True),
    ] = None

    drop_clusters: Annotated[
        str | None,
        Setting("Clusters of analyze, or of --labels, to drop, such as 0,3,8-12.", is_list=True),
    ] = None

    ksample: Annotated[
        int | None, Setting("K of the k-means of analyze to use; the latest by default.", min=1)
    ] = None

    labels: Annotated[
        str | None,
        Setting(
            "File of the cluster of each particle (−1: none), in their order or by their original "
            "numbers, instead of k-means; of conditions their column 'label'."
        ),
    ] = None

    gmm: Annotated[int | None, Setting("Components of a Gaussian mixture; see --drop.", min=1)] = (
        None
    )

    drop: Annotated[
        str | None,
        Setting(
            "Components of the mixture to drop, such as 0,3; without, they are shown.", is_list=True
        ),
    ] = None

    zscore: Annotated[
        float | None,
        Setting(
            "Drop particles with |z| more than this number of SD above the mean; 2, as in the "
            "published protocol, if no number is given.",
            bare=2,
            above=0,
        ),
    ] = None

    umap_polygon: Annotated[
        str | None,
        Setting("File of the corners of a polygon in the UMAP, x y per line; inside is kept."),
    ] = None

    null: Annotated[
        float | None,
        Setting(
            "Drop images that show nothing with more than this probability; of a run of --method "
            "mfa.",
            min=0,
            max=1,
        ),
    ] = None

    where: Annotated[
        str | None,
        Setting(
            "Condition that particles fulfil to be kept, as 'z_norm < 12 and not (cluster in (3, "
            "5, 8-12) or pc1 > 2)'.",
            metavar="CONDITION",
        ),
    ] = None

    conditions: Annotated[
        str | None,
        Setting("File of conditions and of polygons in any plane, as `explore` saves it."),
    ] = None

    ind: Annotated[str | None, Setting("Earlier selection; only its particles are kept.")] = None

    show: Annotated[
        bool,
        Setting(
            "Select nothing: show the clusters (of analyze, of --labels, or the components of "
            "--gmm), with particles and mean volume of each."
        ),
    ] = False

    name: Annotated[
        str | None,
        Setting("Name of this try, whose results are in RUN/filter.NAME, beside those of others."),
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.name is not None and not NAME.fullmatch(self.name):
            raise ConfigError(
                f"--name takes letters, digits, - and _, a letter first; got {self.name!r}."
            )
        keep = whole_numbers(self.keep_clusters, "--keep-clusters", ranges=True)
        drop = whole_numbers(self.drop_clusters, "--drop-clusters", ranges=True)
        components = whole_numbers(self.drop, "--drop", ranges=True)
        if keep and drop:
            raise ConfigError("Give --keep-clusters or --drop-clusters, not both.")
        if components and self.gmm is None:
            raise ConfigError("--drop takes components of a mixture: give their number with --gmm.")
        if self.show and self._selects:
            raise ConfigError("--show selects nothing; give it alone, with --gmm or with --labels.")
        if self.only_shows:
            if self.gmm is not None and self.labels is not None:
                raise ConfigError(
                    "--gmm shows the components of a mixture, and --labels the clusters of a file: "
                    "give one of them."
                )
            return
        if not self._selects:
            raise ConfigError(
                "Choose a method: --keep-clusters or --drop-clusters (of analyze, or of --labels), "
                "--gmm with --drop, --zscore, --where, --conditions, --umap-polygon, --null or "
                "--ind; several can be combined. --show shows the clusters first."
            )
        if self.labels is not None and not (keep or drop or self.where or self.conditions):
            raise ConfigError(
                "--labels needs --keep-clusters, --drop-clusters, --where, --conditions or --show."
            )
        if self.gmm is not None and not (components or self.where):
            raise ConfigError(
                "Choose with --drop which components of --gmm to drop; alone, --gmm shows them."
            )

    @property
    def _selects(self) -> bool:
        clusters = (self.keep_clusters, self.drop_clusters, self.drop)
        others = (self.where, self.conditions, self.zscore, self.umap_polygon, self.null, self.ind)
        return any(clusters) or any(value is not None for value in others)

    @property
    def only_shows(self) -> bool:
        """Whether clusters or components are shown, and nothing is selected."""
        return self.show or (self.gmm is not None and not self._selects)
