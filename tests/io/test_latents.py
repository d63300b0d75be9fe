"""Latents from the files that people have."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydrgn.errors import InputError
from raydrgn.io.cryodrgn import write_latents
from raydrgn.io.latents import read_latents_file

Z = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def csv(header, columns=Z.T, numbered=False):
    rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    if numbered:
        rows = [f"{i},{row}" for i, row in enumerate(rows)]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


def written(folder, kind):
    name = {"pickle": "z.3.pkl", "bare pickle": "z.pkl"}.get(kind, kind)
    uri = folder / name
    if kind == "pickle":
        write_latents(str(uri), Z, Z)
    elif kind == "bare pickle":
        uri.write_bytes(pickle.dumps(Z))
    elif kind == "z.npy":
        np.save(uri, Z.astype(">f8"))
    elif kind == "z.parquet":
        columns = {f"z{i}": Z[:, i] for i in range(3)} | {"label": list("abcde")}
        pq.write_table(pa.table(columns), uri)
    elif kind == "z.txt":
        np.savetxt(uri, Z)
    elif kind == "z.csv":
        uri.write_text(csv(None))
    elif kind == "pandas.csv":
        uri.write_text(csv(",z0,z1,z2", numbered=True))
    elif kind == "more.csv":
        uri.write_text(csv("index,z_0,z_1,z_2", [range(5), *Z.T]))
    else:
        dtype = [("uid", "u8"), *((f"components_mode_{k}/value", "f4") for k in (2, 0, 1))]
        rows = np.zeros(5, dtype=dtype)
        rows["uid"] = np.arange(5) + 10
        for k in range(3):
            rows[f"components_mode_{k}/value"] = Z[:, k]
        with uri.open("wb") as stream:
            np.save(stream, rows)
    return str(uri)


@pytest.mark.parametrize(
    "kind",
    [
        *("pickle", "bare pickle", "z.npy", "z.parquet", "z.txt", "z.csv", "pandas.csv"),
        *("more.csv", "J7_particles.cs"),
    ],
)
def test_latents_of_every_kind_are_the_same(tmp_path, kind):
    found = read_latents_file(written(tmp_path, kind))
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, Z, rtol=1e-6)
    assert len(found.names) == 3


def test_components_of_cryosparc_are_in_the_order_of_their_numbers(tmp_path):
    rows = np.zeros(2, dtype=[(f"components_mode_{k}/value", "f4") for k in range(11)])
    for k in range(11):
        rows[f"components_mode_{k}/value"] = k
    np.save(tmp_path / "J7_particles.npy", rows)
    (tmp_path / "J7_particles.npy").rename(tmp_path / "J7_particles.cs")
    found = read_latents_file(str(tmp_path / "J7_particles.cs"))
    assert found.values.tolist() == [[*range(11)]] * 2
    assert found.names[-1] == "component 10"


def test_components_of_cryosparc_keep_their_uids(tmp_path):
    found = read_latents_file(written(tmp_path, "J7_particles.cs"))
    assert found.names == ("component 0", "component 1", "component 2")
    assert found.uids.tolist() == [10, 11, 12, 13, 14]


def test_one_dimension(tmp_path):
    np.save(tmp_path / "z.npy", Z[:, 0])
    assert read_latents_file(str(tmp_path / "z.npy")).values.shape == (5, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("z.npy", np.zeros((2, 3, 4)), r"found shape \(2, 3, 4\)"),
        ("z.npy", np.zeros((2, 3), int), "of type int64"),
        ("z.npy", np.full((3, 2), np.nan), r"row 0 \(from 0\): a latent is not finite \(3 such"),
        ("z.npy", np.zeros((0, 2)), "has no rows"),
        ("z.csv", b"a,b\n1,x\n2,y\n", "column b holds no numbers"),
        ("z.csv", b"", r"z\.csv is empty"),
        ("z.mrc", b"1", "not a file of latents"),
        ("z.cs", np.zeros(3, [("uid", "u8")]), "3D Variability"),
    ],
)
def test_what_is_no_latents_is_refused(tmp_path, name, content, message):
    uri = tmp_path / name
    if isinstance(content, bytes):
        uri.write_bytes(content)
    else:
        with uri.open("wb") as stream:
            np.save(stream, content)
    with pytest.raises(InputError, match=message):
        read_latents_file(str(uri))


@pytest.mark.parametrize("zdim", [1, 3])
def test_the_numbers_with_which_pandas_names_columns_are_no_latent(tmp_path, zdim):
    values = np.random.default_rng(0).normal(size=(5, zdim))
    names = ",".join(map(str, range(zdim)))
    rows = "\n".join(",".join(map(str, row)) for row in values)
    (tmp_path / "z.csv").write_text(f"{names}\n{rows}\n")
    found = read_latents_file(str(tmp_path / "z.csv"))
    np.testing.assert_allclose(found.values, values, rtol=1e-6)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (",UMAP1,UMAP2,PC1,PC2,z0,z1", ("z0", "z1")),  # a data frame of everything
        (",umap1,umap2,pc1,pc2,energy,label", ("pc1", "pc2")),
    ],
)
def test_of_several_kinds_of_columns_one_is_the_latents(tmp_path, header, names):
    values = np.random.default_rng(0).normal(size=(5, 6))
    (tmp_path / "frame.csv").write_text(csv(header, values.T, numbered=True))
    found = read_latents_file(str(tmp_path / "frame.csv"))
    assert found.names == names
    columns = [header.split(",").index(name) - 1 for name in names]
    np.testing.assert_allclose(found.values, values[:, columns], rtol=1e-6)
