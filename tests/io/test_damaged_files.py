"""Damaged, renamed and retyped files of every kind: the right result, or one sentence.

Never another exception, a warning of NumPy, much memory or a long time. RAYDRGN_FUZZ_EXAMPLES is
the number of examples for each kind of file, and makes them random; the suite takes few, and
always the same.
"""

import io
import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phantoms import (
    cs_rows,
    defocus_columns,
    images_of,
    loop,
    optics_columns,
    pose_columns,
    star_31,
    table_of,
    write_mrc,
)
from raydrgn.errors import RaydrgnError
from raydrgn.io.cryodrgn import read_ctf, read_latents, read_poses
from raydrgn.io.indices import read_indices, read_labels
from raydrgn.io.latents import read_latents_file
from raydrgn.io.metadata import read_metadata
from raydrgn.io.mrc import read_header, read_slices, read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.io.starrows import read_text_star
from raydrgn.run.config import RunConfig

EXAMPLES = os.environ.get("RAYDRGN_FUZZ_EXAMPLES")
fuzz = settings(
    max_examples=int(EXAMPLES or 8),
    derandomize=EXAMPLES is None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

MEMORY_FACTOR, MEMORY_CONSTANT = 10, 30 * 2**20
SECONDS = 10.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the stack that the particle files name."""
    place = tmp_path_factory.mktemp("damaged")
    write_mrc(place / "stack.mrcs", images_of(4))
    return place


def read(folder, name, content, *readers):
    """Read a file with each reader; each gives a result or one sentence."""
    place = Path(folder) / name
    place.write_bytes(content)
    for reader in readers:
        tracemalloc.start()
        began = time.process_time()  # a busy machine gives it little
        try:
            reader(str(place))
        except RaydrgnError as error:
            message = str(error)
            assert message.strip(), "an empty message"
            assert len(message) < 4000 + 20 * len(str(place)), message
            assert not message.rstrip().endswith(".."), message
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < MEMORY_FACTOR * len(content) + MEMORY_CONSTANT, f"{peak} bytes"
        assert time.process_time() - began < SECONDS


@st.composite
def damaged(draw, contents):
    """Cut, overwrite, delete, repeat and insert bytes of one of some contents."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(1, 24))
        match draw(st.sampled_from(["cut", "overwrite", "delete", "repeat", "insert", "swap"])):
            case "cut":
                del content[at:]
            case "overwrite":
                content[at : at + length] = draw(st.binary(min_size=1, max_size=length))
            case "delete":
                del content[at : at + length]
            case "repeat":
                content[at:at] = content[at : at + length]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=length))
            case "swap":
                content[at : at + length] = content[at : at + length][::-1]
    return bytes(content)


def bytes_of(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


# STAR ----------------------------------------------------------------------------------------

CELLS = st.sampled_from(
    [
        *("nan", "inf", "-inf", "1e400", "1e-400", "-1", "0", "abc", "1_0", "é", "''", '"', "#"),
        *("'a b'", "[1,2]", "[]", "1@stack.mrcs", "5@stack.mrcs", "1@", "@stack.mrcs", "0x10"),
        *("99999999999999999999@stack.mrcs", "1@/", "1@.", "1@../stack.mrcs", "1@a/../stack.mrcs"),
        *("1@stack.mrcs:mrcs", "1@stack.mrcs\x7f", "data_x", "loop_", "_rlnX", "stop_", ";", "$x"),
    ]
) | st.text(max_size=8)


@st.composite
def star_files(draw):
    """RELION files with columns renamed, left out or doubled, and cells of any kind."""
    optics = optics_columns()
    particles = {
        "rlnImageName": [f"{i + 1}@stack.mrcs" for i in range(4)],
        "rlnOpticsGroup": [1] * 4,
        **defocus_columns(4),
        **pose_columns(4, draw(st.sampled_from(["Angst", ""]))),
    }
    extra = ["rlnBeamTiltX", "rlnOddZernike", "rlnGroupName", "rlnCtfScalefactor", "rlnPixelSize"]
    for name in draw(st.lists(st.sampled_from(extra), max_size=2, unique=True)):
        particles[name] = [draw(CELLS) for _ in range(4)]
    for table in (optics, particles):
        for name in draw(st.lists(st.sampled_from(list(table)), max_size=2, unique=True)):
            match draw(st.sampled_from(["drop", "rename", "cell"])):
                case "drop":
                    del table[name]
                case "rename":
                    table[draw(st.sampled_from(["rlnX", "rlnVoltage", "rlnImageSize"]))] = (
                        table.pop(name)
                    )
                case "cell":
                    row = draw(st.integers(0, len(table[name]) - 1))
                    table[name] = [*table[name][:row], draw(CELLS), *table[name][row + 1 :]]
    blocks = [loop("optics", optics) if optics else "", loop("particles", particles)]
    text = "".join(draw(st.permutations(blocks)))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig"])), "replace")


STAR_READERS = (
    read_metadata,
    lambda uri: read_metadata(uri, need_images=False),
    read_text_star,
)


@fuzz
@given(content=star_files())
def test_star_files_with_other_columns_and_cells(folder, content):
    read(folder, "particles.star", content, *STAR_READERS)


@pytest.fixture(scope="module")
def star_content(folder):
    place, _ = star_31(folder)
    return Path(place).read_bytes()


@fuzz
@given(data=st.data())
def test_star_files_with_other_bytes(folder, star_content, data):
    read(folder, "particles.star", data.draw(damaged([star_content])), *STAR_READERS)


# cryoSPARC -----------------------------------------------------------------------------------

VALUES = {
    "ints": np.array([0, -1, 4, 2**31 - 1]),
    "floats": np.array([0, np.nan, np.inf, 1e300]),
    "small": np.array([0, 1, 2, 3], dtype=np.uint8),
    "bytes": np.array([b"stack.mrcs", b"\xff\xfe", b"", b">>"]),
    "text": np.array(["stack.mrcs", "é", "", "x"]),
    "pairs": np.zeros((4, 2), dtype=np.float32),
    "matrices": np.ones((4, 2, 2)),
    "truth": np.array([True, False, True, False]),
    "complex": np.zeros(4, dtype=complex),
    "big-endian": np.arange(4, dtype=">u4"),
}
CS_NAMES = [
    *cs_rows().dtype.names,
    "ctf/tilt_A",
    "ctf/anisomag",
    "blob/sign",
    "alignments3D/psize_A",
]


@st.composite
def cs_files(draw):
    """Files of cryoSPARC with fields left out, or of other types and values."""
    names = draw(st.lists(st.sampled_from(CS_NAMES), max_size=3, unique=True))
    fields = {name: draw(st.sampled_from([None, *VALUES.values()])) for name in names}
    rows = cs_rows(fields=fields)
    if draw(st.booleans()):
        rows = rows.astype(rows.dtype.newbyteorder(">"))
    rows = draw(st.sampled_from([rows, rows[:0], rows.reshape(2, 2), rows[0], rows[::2]]))
    return bytes_of(lambda stream: np.save(stream, rows))


CS_READERS = (read_metadata, lambda uri: read_metadata(uri, need_images=False), read_latents_file)


@fuzz
@given(content=cs_files())
def test_cs_files_with_other_fields(folder, content):
    read(folder, "particles.cs", content, *CS_READERS)


@fuzz
@given(content=damaged([bytes_of(lambda stream: np.save(stream, cs_rows()))]))
def test_cs_files_with_other_bytes(folder, content):
    read(folder, "particles.cs", content, *CS_READERS)


# MRC -----------------------------------------------------------------------------------------


@st.composite
def mrc_files(draw, content):
    """Stacks with words of the header replaced."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = 4 * draw(st.integers(0, 60))
        order = draw(st.sampled_from(["little", "big"]))
        word = draw(st.sampled_from([0, 1, 2, 3, 8, 255, 2**24, 2**31 - 1]) | st.integers(0, 2**31))
        changed[at : at + 4] = word.to_bytes(4, order)
    return bytes(changed)


def read_stack(uri):
    header = read_header(uri)
    read_slices(header, 0, header.shape[0])


@fuzz
@given(data=st.data())
@pytest.mark.parametrize("volume", [True, False])
def test_mrc_files_with_other_words_and_bytes(folder, volume, data):
    place = Path(folder) / "whole.mrc"
    write_mrc(place, images_of(8), volume=volume)
    content = place.read_bytes()
    content = data.draw(mrc_files(content) | damaged([content]))
    source = ParticleSource(particles=str(folder / "a.mrcs"))
    read(folder, "a.mrcs", content, read_stack, read_volume, lambda _: open_particles(source))


# Pickles -------------------------------------------------------------------------------------

ARRAYS = st.sampled_from(
    [
        np.arange(4),
        np.zeros((4, 9), np.float32),
        np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)),
        np.zeros((4, 2)),
        np.array(["a", "b"]),
        np.array([1, None, "x"], dtype=object),
        np.array(3),
        np.zeros((0, 3)),
        np.full((2, 9), np.nan),
        np.array([1e300, -1e300]),
        np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        np.array([1 + 2j]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
OBJECTS = st.recursive(
    SCALARS | ARRAYS | st.binary(max_size=5),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.tuples(inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
        st.sets(st.integers(0, 5) | st.text(max_size=2), max_size=3),
    ),
    max_leaves=6,
)
PICKLE_READERS = (
    *(read_poses, read_ctf, read_latents, read_indices, read_labels, read_latents_file),
    lambda uri: read_indices(uri, count=4),
)


@fuzz
@given(found=OBJECTS, protocol=st.integers(0, 5))
def test_pickles_of_anything(folder, found, protocol):
    read(folder, "a.pkl", pickle.dumps(found, protocol=protocol), *PICKLE_READERS)


@fuzz
@given(
    content=damaged(
        [pickle.dumps(np.zeros((4, 9)), protocol=p) for p in (0, 2, 4)]
        + [pickle.dumps({3, 1}), pickle.dumps(range(3)), pickle.dumps((np.arange(3),))]
    )
)
def test_pickles_with_other_bytes(folder, content):
    read(folder, "a.pkl", content, *PICKLE_READERS)


# Tables and text -----------------------------------------------------------------------------

TABLE_READERS = (read_indices, read_labels, read_latents_file, lambda u: read_indices(u, count=4))
TOKENS = st.sampled_from(
    ["1", "0", "-1", "2.5", "nan", "1e400", "x", "", "True", '"3"', "é", "#", " "]
)


@st.composite
def text_files(draw):
    delimiter = draw(st.sampled_from([",", ";", "\t", " ", ", "]))
    rows = draw(st.lists(st.lists(TOKENS, max_size=3), max_size=5))
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(map(delimiter.join, rows))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin1"])), "replace")


@fuzz
@given(content=text_files() | st.binary(max_size=40))
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_text_of_any_kind(folder, name, content):
    source = ParticleSource(particles=str(folder / "list.txt"))
    read(folder, name, content, *TABLE_READERS)
    read(folder, "list.txt", content, lambda _: open_particles(source))


@fuzz
@given(content=damaged([bytes_of(lambda stream: np.save(stream, np.arange(4)))]))
def test_arrays_with_other_bytes(folder, content):
    read(folder, "a.npy", content, *TABLE_READERS)


COLUMNS = st.sampled_from(
    [
        *([1, 2, 3, 4], [0.5, None, 2.0, 1.0], ["a", "b", None, "d"], [True, False, True, None]),
        *([[1.0] * 9] * 4, [[1.0] * 2] * 4, [b"x"] * 4, [None] * 4, [2**62] * 4, [-1, 0, 0, 0]),
    ]
)


PARTICLES = table_of(4).to_bytes()


@st.composite
def parquet_files(draw):
    """Particle tables with columns left out, or of other types and values; other tables."""
    table = pq.read_table(io.BytesIO(PARTICLES))
    metadata = draw(st.sampled_from([table.schema.metadata, None, {b"raydrgn.particles": b"9"}]))
    names = draw(st.lists(st.sampled_from([*table.column_names, "x"]), max_size=3, unique=True))
    for name in names:
        if name in table.column_names:
            table = table.drop_columns([name])
        values = draw(st.none() | COLUMNS)
        if values is not None:
            table = table.append_column(name, pa.array(values))
    if draw(st.booleans()):
        table = table.select(names) if set(names) <= set(table.column_names) else table
    return bytes_of(lambda s: pq.write_table(table.replace_schema_metadata(metadata), s))


@fuzz
@given(content=parquet_files() | damaged([PARTICLES]))
def test_parquet_files_of_any_kind(folder, content):
    source = ParticleSource(particles=str(folder / "a.parquet"))
    read(
        *(folder, "a.parquet", content, ParticleTable.read, *TABLE_READERS),
        lambda _: open_particles(source, need_images=False),
    )


CONFIG = yaml.safe_dump({"source": {"particles": "p.star"}, "train": {"epochs": 3}, "data": {}})


@fuzz
@given(
    content=damaged([CONFIG.encode()])
    | st.text(max_size=40).map(str.encode)
    | OBJECTS.map(lambda found: repr(found).encode())
)
def test_yaml_of_any_kind(folder, content):
    read(folder, "config.yaml", content, RunConfig.read)
