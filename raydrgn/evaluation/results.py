"""Numbers of an evaluation, as they lie in the folder of results."""

import json
from dataclasses import dataclass

from raydrgn.errors import InputError
from raydrgn.evaluation.evaluation import Evaluation
from raydrgn.fourier.shells import frequencies
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.identity import read_record

NAME = "evaluation.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedScore:
    """Agreement with the truth, as a folder of results has it."""

    epoch: int
    fsc: float
    """Mean per-image FSC over all shells."""

    fsc_masked: float


def read_score(folder: Uri, epoch: int) -> RecordedScore | None:
    """Return what an evaluation of an epoch has found; None if it is not finished."""
    uri = storage.join(folder, NAME)
    if not storage.exists(uri):
        return None
    found = read_record(uri)
    if not {"fsc", "fsc_masked"} <= found.keys():
        raise InputError(f"{uri} is damaged; make it again with `raydrgn evaluate`.")
    return RecordedScore(epoch=epoch, fsc=found["fsc"], fsc_masked=found["fsc_masked"])


def write_evaluation(found: Evaluation, folder: ResultFolder, *, box: int) -> None:
    """Write all measures, and the FSC curve of each particle compared."""
    content = json.dumps(found.to_dict(), indent=1).encode()
    storage.write_bytes(folder.at(NAME), content)
    shells = [f"{frequency:.6f}" for frequency in frequencies(box).tolist()]
    rows = [
        (row, number, *(f"{value:.6f}" for value in curve))
        for row, number, curve in zip(found.rows, found.original, found.curves, strict=True)
    ]
    folder.write_table("per_image_fsc.csv", ("particle", "original", *shells), rows)
