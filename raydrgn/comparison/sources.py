"""Where labels come from: k-means of a run's epoch, folders of results, files."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from raydrgn.comparison.labelings import (
    SELECTION,
    Labeling,
    largest_file,
    matching_rows,
    with_numbers,
)
from raydrgn.errors import InputError, RaydrgnError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.indices import rows_of_numbers
from raydrgn.io.labels import (
    WITH_IMAGES,
    Values,
    read_labels_file,
    read_values_file,
    split_column,
    to_labels,
)
from raydrgn.io.matching import find_numbers
from raydrgn.io.particles import ParticleTable
from raydrgn.io.passthrough import read_rows
from raydrgn.io.starrows import read_text_star
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_parquet
from raydrgn.reporting.analysis_results import AnalysisResults, kmeans_folder
from raydrgn.run.directory import RunDirectory, is_run
from raydrgn.run.identity import MADE_FROM, SETTINGS, read_record
from raydrgn.run.reader import open_run
from raydrgn.run.same_particles import numbers_in, numbers_in_file
from raydrgn.shapes import Int

log = logging.getLogger(__name__)

KMEANS = re.compile(r"kmeans(\d+)")
CLASS = re.compile(r"C(\d+)")
LABELS_TABLE, SELECTION_TABLE, CLASS_PARTICLES = "labels.parquet", "selection.parquet", "ind.pkl"
LABELS = "labels"
"""Kind of labels of which nothing more is known."""

LANDSCAPE, OCCUPANCIES = "landscape.parquet", "occupancies.parquet"


def open_labeling(word: str, *, ksample: int | None = None) -> Labeling:
    """Return the labels that a word of the command line names.

    Args:
        word: ``RUN`` or ``RUN:EPOCH``; a folder of ``analyze``, ``filter``, ``landscape`` or
            ``occupancy classes``; ``FILE`` or ``FILE:COLUMN``; ``FOLDER:SUBUNIT`` of ``occupancy
            score``.
        ksample: K of the k-means to use; the latest by default.

    Raises:
        RaydrgnError: If it is none of these, or its labels cannot be read.
    """
    place, part = split_column(word)
    uri = _table_of_folder(storage.absolute(place), part)
    if storage.is_folder(uri):
        if is_run(storage.list_names(uri)):
            return _of_run(word, uri, part, ksample)
        if part is None:
            return replace(_of_folder(word, uri, ksample), run=_made_from(uri))
    if not storage.exists(uri):
        raise InputError(
            f"{word} does not exist: expected a run, a folder of results, or a file of labels."
        )
    found = read_labels_file(uri, part)
    return Labeling(
        name=word,
        kind=LABELS,
        names=found.names,
        codes=found.codes,
        numbers=found.numbers,
        images=uri if suffix_of(uri) in WITH_IMAGES else None,
        column=found.column,
    )


def matched(labelings: Sequence[Labeling]) -> list[Labeling]:
    """Return labelings whose particles have the same numbers where they are the same.

    Of runs on different files they are known by their images; in RELION's files by the images'
    names, in cryoSPARC's by their uids, in the file of the same kind that a run's particles come
    from; without a run in the file of most labels. Where one is not there, the rows of a file stay
    without numbers, and a warning tells of it; for these see ``with_numbers``.

    Raises:
        InputError: If it is not known which particles are the same.
    """
    tables = {run: _table(run) for run in dict.fromkeys(found.run for found in labelings) if run}
    known = {run: table for run, table in tables.items() if table is not None}
    if not known:
        return with_numbers(_of_files(labelings))
    main, reference = next(iter(known.items()))
    numbers = {
        run: table.column("index")
        if run == main
        else numbers_in(table, reference, name=run, other=main)
        for run, table in known.items()
    }
    found = [
        labeling
        if labeling.numbers is None or labeling.run not in known
        else _renumbered(labeling, known[labeling.run], numbers[labeling.run])
        for labeling in labelings
    ]
    original = reference.metadata.get("source", "")
    found = [_by_images(labeling, original, reference) for labeling in found]
    if suffix_of(original) in WITH_IMAGES and storage.is_at_hand(original):
        _check_counts(found, original)
    return with_numbers(found)


def _of_files(labelings: Sequence[Labeling]) -> list[Labeling]:
    """Return labelings of files, with numbers in the one of most labels where images are known."""
    original = largest_file(labelings)
    if original is None or sum(found.images is not None for found in labelings) < 2:
        return [*labelings]
    return [_by_images(labeling, original) for labeling in labelings]


def _check_counts(labelings: Sequence[Labeling], original: Uri) -> None:
    """Refuse more labels without numbers than the original file has particles.

    Raises:
        InputError: Naming both files.
    """
    unknown = [labeling for labeling in labelings if labeling.numbers is None]
    if not unknown:
        return
    if suffix_of(original) == ".star":
        count = len(read_text_star(original).particles().cells("rlnImageName"))
    else:
        count = len(read_rows(original))
    for labeling in unknown:
        if len(labeling.codes) > count:
            raise InputError(
                f"{labeling.name} has {len(labeling.codes):,} labels without the numbers of their "
                f"particles, but {original}, which the run was trained from, lists {count:,}: they "
                "are of another file. Give a table with the columns original and label."
            )


def _table(run: str) -> ParticleTable | None:
    """Return the particles of a run; None where they are not known."""
    try:
        return open_run(run).particles()
    except RaydrgnError:
        return None


def _renumbered(
    labeling: Labeling, table: ParticleTable, numbers: Int[np.ndarray, " n"]
) -> Labeling:
    """Return a labeling with other numbers of a table's particles, as far as they are in it."""
    rows = rows_of_numbers(table.column("index"), labeling.known_numbers)
    return replace(labeling, numbers=np.where(rows < 0, labeling.known_numbers, numbers[rows]))


def _by_images(
    labeling: Labeling, original: Uri, reference: ParticleTable | None = None
) -> Labeling:
    """Return a labeling of a particle file with the numbers of its particles in another one.

    Raises:
        InputError: If that is of another kind, and it is not known which particles are the same.
    """
    if labeling.images is None or labeling.numbers is not None:
        return labeling
    is_same_kind = suffix_of(labeling.images) == suffix_of(original)
    is_same_kind = is_same_kind and storage.is_at_hand(original)
    if reference is not None and not is_same_kind:
        return replace(labeling, numbers=numbers_in_file(labeling.images, reference))
    if not is_same_kind:
        log.warning(
            "the rows of %s are taken in order: %s is a file of another kind",
            *(labeling.name, original),
        )
        return labeling
    try:
        return replace(labeling, numbers=find_numbers(labeling.images, original))
    except InputError:
        log.warning(
            "the rows of %s are taken in order: not all of its images are in %s",
            *(labeling.name, original),
        )
        return labeling


def open_values(word: str, own: Labeling) -> Values | None:
    """Return the number that a file has for each of some particles; NaN where it has none.

    Args:
        word: ``FILE`` or ``FILE:COLUMN``; ``FOLDER:SUBUNIT`` of ``occupancy score``.
        own: The particles.

    Returns:
        None if the word names no file.

    Raises:
        InputError: If the file holds no numbers, or not of these particles.
    """
    place, column = split_column(word)
    uri = _table_of_folder(storage.absolute(place), column)
    if storage.is_folder(uri) or not storage.exists(uri):
        return None
    found = read_values_file(uri, column)
    rows = np.arange(len(found.values))
    images = uri if suffix_of(uri) in WITH_IMAGES else None
    other = Labeling(
        name=word, kind="values", names=(), codes=rows, numbers=found.numbers, images=images
    )
    row = matching_rows(own, matched([own, other])[1])
    return Values(np.where(row >= 0, found.values[row], np.nan), own.numbers, found.column)


def _table_of_folder(uri: Uri, column: str | None) -> Uri:
    """Return the table in a folder of ``occupancy score``, where one of its columns is named."""
    if column is None or not storage.is_folder(uri):
        return uri
    table = storage.join(uri, OCCUPANCIES)
    return table if storage.exists(table) else uri


def _of_run(word: str, root: Uri, epoch: str | None, ksample: int | None) -> Labeling:
    if epoch is not None and not epoch.isdecimal():
        raise InputError(f"{word}: after the colon comes an epoch, a whole number.")
    run = open_run(root)
    number = run.epoch(None if epoch is None else int(epoch), latents_only=True)
    count = len(run.latents(number))
    analysis = AnalysisResults(run, number)
    clusters = ksample or analysis.ksample()
    found = to_labels(analysis.labels(clusters, count), word, most=None)
    return Labeling(
        name=word,
        kind=f"k-means of {clusters}, epoch {number}",
        names=found.names,
        codes=found.codes,
        numbers=run.original_numbers(count),
        run=root,
    )


def _of_folder(word: str, uri: Uri, ksample: int | None) -> Labeling:
    """Return the labels in a folder of results, known by its files."""
    names = storage.list_names(uri)
    if SELECTION_TABLE in names:
        return _of_table(word, storage.join(uri, SELECTION_TABLE), "kept", SELECTION)
    if LABELS_TABLE in names:
        return _of_table(word, storage.join(uri, LABELS_TABLE), "cluster", _shown_kind(uri))
    if LANDSCAPE in names:
        return _of_table(word, storage.join(uri, LANDSCAPE), "state", "states of the landscape")
    made = sorted(int(m.group(1)) for name in names if (m := KMEANS.fullmatch(name)))
    if made:
        clusters = ksample or _latest(uri, made)
        if clusters not in made:
            listed = ", ".join(map(str, made))
            raise InputError(f"{word} has k-means with K = {listed}, not {clusters}.")
        table = storage.join(uri, kmeans_folder(clusters), LABELS_TABLE)
        if storage.exists(table):
            return _of_table(word, table, "cluster", f"k-means of {clusters}")
    classes = sorted(int(m.group(1)) for name in names if (m := CLASS.fullmatch(name)))
    if classes and storage.exists(storage.join(uri, f"C{classes[0]}", CLASS_PARTICLES)):
        return _of_classes(word, uri, classes)
    raise InputError(
        f"{word} has no labels of particles; expected a run, or a folder that `raydrgn analyze`, "
        "`raydrgn filter`, `raydrgn landscape` or `raydrgn occupancy classes` has made of one."
    )


def _made_from(uri: Uri) -> str | None:
    """Return the run that the results in a folder, or in the one around it, were made from."""
    for folder in (uri, storage.parent(uri)):
        settings = storage.join(folder, SETTINGS)
        if storage.exists(settings):
            run = (read_record(settings).get(MADE_FROM) or {}).get("run")
            return run if run and storage.is_at_hand(RunDirectory(run).config) else None
    return None


def _shown_kind(uri: Uri) -> str:
    """Return what clusters in a folder are of: what `filter` showed, a mixture, a file, k-means."""
    settings = storage.join(uri, SETTINGS)
    record = read_record(settings) if storage.exists(settings) else {}
    if (gmm := record.get("gmm")) is not None:
        return f"Gaussian mixture of {gmm}"
    if labels := record.get("labels"):
        return f"labels of {PurePosixPath(labels).name}"
    return f"k-means of {record['ksample']}" if "ksample" in record else "k-means"


def _latest(uri: Uri, made: list[int]) -> int:
    if not storage.exists(storage.join(uri, SETTINGS)):
        return made[0]
    return int(read_record(storage.join(uri, SETTINGS))["ksample"])


def _of_table(word: str, uri: Uri, column: str, kind: str) -> Labeling:
    table = read_parquet(storage.read_bytes(uri), uri)
    if table.column("original").null_count:
        raise InputError(
            f"{uri} has no numbers of the original set, because the selection that the run was "
            "trained on is gone."
        )
    values = table.column(column).to_numpy()
    if values.dtype == bool:
        values = np.where(values, "kept", "dropped")
    found = to_labels(values, uri, most=None)
    return Labeling(
        name=word,
        kind=kind,
        names=found.names,
        codes=found.codes,
        numbers=table.column("original").to_numpy(),
    )


def _of_classes(word: str, uri: Uri, classes: list[int]) -> Labeling:
    """Return the classes of ``occupancy classes``; each lists its particles."""
    members = [
        cryodrgn.read_indices(storage.join(uri, f"C{number}", CLASS_PARTICLES))
        for number in classes
    ]
    return Labeling(
        name=word,
        kind="occupancy classes",
        names=tuple(f"C{number}" for number in classes),
        codes=np.repeat(np.arange(len(classes)), [len(numbers) for numbers in members]),
        numbers=np.concatenate(members),
    )
