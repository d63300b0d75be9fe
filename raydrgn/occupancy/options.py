"""How masks are made and how occupancies are clustered. Loads nothing heavy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from raydrgn.errors import ConfigError
from raydrgn.settings import Setting, check_bounds

Scale = Literal["matrix", "column"]
Normalisation = Literal["reference", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskOptions:
    """How the mask of a subunit is made of its density."""

    resolution_angstrom: Annotated[
        float,
        Setting("Resolution of the densities of atoms, Å.", flags=("--resolution",), above=0),
    ] = 10.0

    threshold: Annotated[
        float | None,
        Setting(
            "Density from which a voxel is in the mask; by default 0.01 for atoms, and half of the "
            "99.99th percentile for maps.",
            above=0,
        ),
    ] = None

    extend_angstrom: Annotated[
        float,
        Setting(
            "How far masks reach beyond the density, Å; whole pixels.", flags=("--extend",), min=0
        ),
    ] = 0.0

    soft_angstrom: Annotated[
        float,
        Setting("Width of the cosine edge beyond that, Å.", flags=("--soft",), min=0),
    ] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassOptions:
    """How volumes fall into classes, and subunits into structural blocks."""

    row_threshold: Annotated[
        float | None,
        Setting("Linkage distance at which the tree of volumes is cut into classes.", above=0),
    ] = None

    classes: Annotated[
        int | None, Setting("Number of classes, instead of --row-threshold.", min=1)
    ] = None

    column_threshold: Annotated[
        float | None,
        Setting("Linkage distance at which the tree of subunits is cut into blocks.", above=0),
    ] = None

    blocks: Annotated[
        int | None, Setting("Number of blocks, instead of --column-threshold.", min=1)
    ] = None

    percentiles: Annotated[
        tuple[float, float],
        Setting("Percentiles of the occupancies that become 0 and 1."),
    ] = (10.0, 90.0)

    scale: Annotated[
        Scale | None,
        Setting(
            "Percentiles of the whole matrix, or of each subunit (column). By default of the "
            "matrix, and of each subunit where occupancies are not normalised."
        ),
    ] = None

    omit: Annotated[
        tuple[str, ...], Setting("Subunits to leave out, as bL28,H68. May be repeated.")
    ] = ()

    where: Annotated[
        str | None,
        Setting(
            'Condition that selects volumes, as "bL28>0.5 and H68<0.2"; their particles are '
            "written to ind.pkl."
        ),
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)
        lower, upper = self.percentiles
        if not 0 <= lower < upper <= 100:
            raise ConfigError(
                f"--percentiles must ascend within 0 to 100, got {lower:g} {upper:g}."
            )
        if self.row_threshold is not None and self.classes is not None:
            raise ConfigError("Give --row-threshold or --classes, not both.")
        if self.column_threshold is not None and self.blocks is not None:
            raise ConfigError("Give --column-threshold or --blocks, not both.")

    @property
    def omitted(self) -> tuple[str, ...]:
        """Names of the subunits to leave out."""
        names = (name.strip() for names in self.omit for name in names.split(","))
        return tuple(name for name in names if name)
