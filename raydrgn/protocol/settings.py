"""Settings of the protocol, and of one of its trainings. Loads nothing heavy."""

import re
from dataclasses import dataclass, replace
from typing import Annotated

from raydrgn.errors import ConfigError
from raydrgn.io.particle_source import ParticleSettings, ParticleSource
from raydrgn.mfa.config import EPOCHS as MFA_EPOCHS
from raydrgn.settings import Setting, check_bounds, setting_fields, whole_numbers

BOXES = (128, 256)
"""Boxes of the paper, pixels: of the rounds that filter, and of the last."""

LOW, HIGH = "", "1024x3 epochs=50"
"""Networks: none for the rounds that filter, which is a mixture of factor analysers, and the
paper's for the last."""

VAE_EPOCHS = 50
"""Epochs of the paper."""

FEWEST_EPOCHS = 3
"""Epochs that convergence can be judged of."""

NONE = "none"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """One training, in words ``BOX WIDTHxLAYERS epochs=N``."""

    box: int | None = None
    """Edge of the images, pixels; None where ``--boxes`` has it."""

    width: int | None = None
    """Units of each layer; None fits a mixture of factor analysers."""

    layers: int = 3
    epochs: int = MFA_EPOCHS

    @property
    def method(self) -> str:
        """Method of ``train``."""
        return "mfa" if self.width is None else "vae"

    @classmethod
    def read(cls, text: str, option: str) -> "TrainingPlan":
        """Read the words of an option.

        Raises:
            ConfigError: Naming the option and the word.
        """
        found: dict[str, int] = {}
        for word in text.split():
            if word.isdecimal() and "box" not in found:
                found["box"] = int(word)
            elif (network := re.fullmatch(r"(\d+)[x×](\d+)", word)) and "width" not in found:
                found["width"], found["layers"] = int(network[1]), int(network[2])
            elif (epochs := re.fullmatch(r"epochs=(\d+)", word)) and "epochs" not in found:
                found["epochs"] = int(epochs[1])
            else:
                raise ConfigError(
                    f'{option} takes words such as "128 256x3 epochs=50" (box, network, epochs), '
                    f"each once, but has {word!r}."
                )
        if "width" in found:
            found.setdefault("epochs", VAE_EPOCHS)
        plan = cls(**found)
        box_is_odd = plan.box is not None and (plan.box < 4 or plan.box % 2)
        if box_is_odd or plan.width == 0 or plan.layers < 1:
            raise ConfigError(f"{option} {text!r} needs an even box, and a network such as 256x3.")
        if plan.epochs < FEWEST_EPOCHS:
            raise ConfigError(
                f"{option} {text!r} has too few epochs; convergence can be judged of "
                f"{FEWEST_EPOCHS} or more."
            )
        return plan

    def in_box(self, box: int) -> "TrainingPlan":
        """Return the same training in a box."""
        return replace(self, box=box)

    def text(self) -> str:
        """Return the words that ``read`` takes."""
        network = [] if self.width is None else [f"{self.width}x{self.layers}"]
        return " ".join([*([str(self.box)] if self.box else []), *network, f"epochs={self.epochs}"])

    def in_words(self) -> str:
        """Return what is trained, for a person to read."""
        if self.width is None:
            return f"{self.box} px, mixture of factor analysers, {self.epochs} epochs"
        return f"{self.box} px, network of {self.width} × {self.layers}, {self.epochs} epochs"


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings(ParticleSettings):
    """Settings of ``protocol``; what is not given is as the project has it."""

    out: Annotated[str, Setting("Folder of the project.", flags=("-o", "--out"))]

    particles: Annotated[
        str | None,
        Setting(
            "Particles: .mrcs, .txt, .star, .cs or .parquet; not needed to go on.",
            is_argument=True,
        ),
    ] = None

    map: Annotated[
        str | None,
        Setting("Map of the refinement that the poses are of (.mrc); not needed to go on."),
    ] = None

    model: Annotated[
        str | None, Setting("Atomic model in that map (PDB, mmCIF), for occupancies of subunits.")
    ] = None

    by: Annotated[
        str | None,
        Setting(
            "What a subunit is, with --model: chain (default), or a YAML file of selections.",
            metavar="chain|FILE.yaml",
        ),
    ] = None

    accept: Annotated[bool, Setting("Go on with what is proposed to be junk, without a pause.")] = (
        False
    )

    drop: Annotated[
        str | None,
        Setting(
            "Go on, and drop these clusters instead of what is proposed, such as 3,11; none keeps "
            "all. 1:3,11 is for round 1; without a number it is for the round that waits.",
            metavar="[ROUND:]CLUSTERS|none",
        ),
    ] = None

    rounds: Annotated[
        int | None, Setting("Rounds of training and filtering before the last (default: 1).", min=1)
    ] = None

    boxes: Annotated[
        str | None,
        Setting(
            "Boxes of the rounds that filter and of the last, pixels (default: 128,256, or that of "
            "the images if it is smaller).",
            metavar="LOW,HIGH",
        ),
    ] = None

    low: Annotated[
        str | None,
        Setting(
            'Training of the rounds that filter, such as "128 256x3 epochs=50": box, units x '
            "layers of an autoencoder, epochs. Without a network (default) it is a mixture of "
            "factor analysers, which tells junk from particles better.",
            metavar="WORDS",
        ),
    ] = None

    high: Annotated[
        str | None,
        Setting(
            'Training of the last round (default: "256 1024x3 epochs=50"). Without a network, such '
            'as "256", it is a mixture of factor analysers, which takes hours, not days, on CPUs.',
            metavar="WORDS",
        ),
    ] = None

    uninvert_data: Annotated[
        bool,
        Setting("Particles are dark on a bright background, unless the map shows otherwise."),
    ] = False

    flip: Annotated[
        bool, Setting("Change the handedness of volumes, unless the map shows otherwise.")
    ] = False

    drop_bad: Annotated[
        bool,
        Setting("Leave out images that cannot be used, and outliers, as train does."),
    ] = False

    seed: Annotated[int | None, Setting("Seed of everything random (default: 0).", min=0)] = None

    estimate: Annotated[
        bool, Setting("Print how long it takes and what it needs; begin nothing.")
    ] = False

    def __post_init__(self) -> None:
        check_bounds(self)
        low, high = self.two_boxes
        for option, text, box in (("--low", self.low, low), ("--high", self.high, high)):
            plan = TrainingPlan.read(text or "", option)
            if plan.box and box and plan.box != box:
                raise ConfigError(
                    f"{option} has a box of {plan.box} px, and --boxes {self.boxes} another; leave "
                    "one of them out."
                )
        if self.particles is None:
            for field in setting_fields(ParticleSettings):
                if getattr(self, field.name) != field.default:
                    raise ConfigError(
                        f"{field.setting.option(field.name)} belongs to PARTICLES: give them too."
                    )
        if self.by is not None and self.model is None:
            raise ConfigError("--by names the subunits of --model; give both.")
        _ = self.clusters

    @property
    def two_boxes(self) -> tuple[int | None, int | None]:
        """The two boxes, as far as ``--boxes`` gives them."""
        boxes = whole_numbers(self.boxes, "--boxes")
        if not boxes:
            return None, None
        if len(boxes) != 2 or boxes[0] > boxes[1] or any(box < 4 or box % 2 for box in boxes):
            raise ConfigError(
                f"--boxes takes two even numbers, the smaller first, such as 128,256; got "
                f"{self.boxes!r}."
            )
        return boxes[0], boxes[1]

    @property
    def drop_round(self) -> int | None:
        """Round that ``--drop`` names; None where it names none."""
        number, colon, _ = (self.drop or "").partition(":")
        if not colon:
            return None
        if not number.isdecimal():
            raise ConfigError(f"--drop takes ROUND:CLUSTERS such as 1:3,11; got {self.drop!r}.")
        return int(number)

    @property
    def clusters(self) -> tuple[int, ...] | None:
        """Clusters to drop; none of them to keep all, and None where that was not given."""
        if self.drop is None:
            return None
        named = self.drop if self.drop_round is None else self.drop.partition(":")[2]
        if named == NONE:
            return ()
        clusters = whole_numbers(named, "--drop", ranges=True)
        if not clusters:
            raise ConfigError(
                "--drop names no cluster; give some, such as 3,11, or none to keep all."
            )
        return clusters

    @property
    def source(self) -> ParticleSource | None:
        """The particles, with what goes with them; None where they are not given."""
        if self.particles is None:
            return None
        return self.source_of(self.particles)
