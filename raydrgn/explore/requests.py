"""What the page sends, checked before anything is done with it."""

import json
from functools import partial
from typing import Annotated, Any, Literal, TypeVar
from unicodedata import normalize

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from raydrgn.errors import ConfigError

MOST_VOLUMES = 16
MOST_IMAGES = 64
MOST_FIELDS = 100
LARGEST_ROW = 2**40

Name = Annotated[str, AfterValidator(partial(normalize, "NFC"))]
"""Of results. Letters with accents are composed: keyboards of some systems send two characters."""

Row = Annotated[int, Field(ge=0, lt=LARGEST_ROW)]
Colour = Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]
ImageKind = Literal["raw", "clear"]
"""As they were recorded; or low-pass filtered with the CTF's phases flipped."""

Model = TypeVar("Model", bound=BaseModel)


class OfEpoch(BaseModel):
    """A request about an epoch; None is the last one, or that of a file of latents."""

    model_config = ConfigDict(extra="forbid", strict=True)
    epoch: Annotated[int, Field(ge=0)] | None = None


class SelectRequest(OfEpoch):
    """Conditions to apply to all particles."""

    conditions: list[dict[str, Any]]


class SaveSelectionRequest(SelectRequest):
    """Conditions to save under a name."""

    name: Name


class OfLatents(OfEpoch):
    """A request about the latents of particles, or of points of a path."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=MOST_VOLUMES)]
    """Rows of particles; or which points of the path, from 0."""

    path: Annotated[str, Field(max_length=64)] | None = None
    """Name of a path of `traverse`."""


class VolumeRequest(OfLatents):
    """Volumes, in the order of a page's requests."""

    page: Annotated[str, Field(max_length=64)]
    number: int
    size: Literal["preview", "full"]


class SaveVolumesRequest(OfLatents):
    """Volumes to save under a name, in the box of the run."""

    name: Name
    level: Annotated[float, Field(allow_inf_nan=False)]
    """Threshold of the surfaces, a density of volumes in the run's own box."""

    colours: Annotated[list[Colour], Field(min_length=1, max_length=MOST_VOLUMES)]


class ImageRequest(OfEpoch):
    """Images of particles."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=MOST_IMAGES)]
    kind: ImageKind


class CommandRequest(BaseModel):
    """A form of a command, filled in."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Annotated[str, Field(max_length=64)]
    filled: Annotated[dict[str, str | bool], Field(max_length=MOST_FIELDS)]


class JobRequest(BaseModel):
    """A job."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: Annotated[str, Field(max_length=128)]


class AnswerRequest(BaseModel):
    """The answer to a project's pause: a saved selection, or agreement."""

    model_config = ConfigDict(extra="forbid", strict=True)
    selection: Annotated[str, Field(max_length=64)] | None
    key: Annotated[str, Field(max_length=256)]
    """Of the proposal that was read."""


def parse(model: type[Model], body: bytes) -> Model:
    """Read a request.

    Raises:
        ConfigError: If it is not as it should be; says what is wrong.
    """
    try:
        return model.model_validate(json.loads(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise ConfigError(f"{where}: {first['msg'].lower()}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("The request is not JSON.") from error
