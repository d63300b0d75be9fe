"""Numbers of an evaluation, as they lie in the folder of results."""

import json

from raydrgn.evaluation.evaluation import Evaluation
from raydrgn.fourier.shells import frequencies
from raydrgn.io import storage
from raydrgn.reporting.result_folder import ResultFolder


def write_evaluation(found: Evaluation, folder: ResultFolder, *, box: int) -> None:
    """Write all measures, and the FSC curve of each particle compared."""
    content = json.dumps(found.to_dict(), indent=1).encode()
    storage.write_bytes(folder.at("evaluation.json"), content)
    shells = [f"{frequency:.6f}" for frequency in frequencies(box).tolist()]
    rows = [
        (row, number, *(f"{value:.6f}" for value in curve))
        for row, number, curve in zip(found.rows, found.original, found.curves, strict=True)
    ]
    folder.write_table("per_image_fsc.csv", ("particle", "original", *shells), rows)
