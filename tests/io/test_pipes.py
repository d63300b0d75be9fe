"""Lists and arrays through real pipes, as a shell makes them."""

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.indices import read_indices, read_labels
from raydrgn.io.latents import read_latents_file
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.run.latents_file import open_latents

READ = """
import sys
from raydrgn.io.indices import read_indices
from raydrgn.io.latents import read_latents_file
print(*(read_indices(sys.argv[1], count=100).tolist() + read_indices(sys.argv[1]).tolist()))
if len(sys.argv) > 2:
    print(read_latents_file(sys.argv[2]).values.tolist())
"""


def in_bash(command):
    done = subprocess.run(
        ["bash", "-c", command.replace("READ", f"{sys.executable} -c '{READ}'")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def piped(tmp_path):
    """Write content into a named pipe; return its name at once."""
    made = []

    def make(name, content):
        pipe = tmp_path / name
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
        writer.start()
        made.append((pipe, writer))
        return str(pipe)

    yield make
    for pipe, writer in made:  # one that nobody has read waits for a reader
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        writer.join(60)
        os.close(reader)


def test_standard_input_and_process_substitution_are_read_like_files(tmp_path):
    np.save(tmp_path / "z.npy", np.array([[0.5, 1.0], [2.0, 3.0]]))
    assert in_bash("printf '7\\n3\\n' | READ -") == ["7 3 7 3"]
    found = in_bash(f"READ <(printf '5,1') <(cat {tmp_path}/z.npy)")
    assert found == ["5 1 5 1", "[[0.5, 1.0], [2.0, 3.0]]"]


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (pickle.dumps(np.arange(3)), ".pkl"),
        (b"0\n1\n2\n", ".txt"),
        ("\ufeff0\r\n1\r\n2\r\n".encode("utf-16-le"), ".txt"),
    ],
    ids=["pickle", "text", "utf-16"],
)
def test_the_content_of_a_pipe_decides_what_it_is(piped, content, suffix):
    uri = piped("list", content)
    assert suffix_of(uri) == suffix
    assert read_indices(uri).tolist() == [0, 1, 2]
    assert read_labels(uri).tolist() == [0, 1, 2]
    assert storage.read_bytes(uri) == content  # once more, and in part
    assert storage.read_bytes(uri, 1, 3) == content[1:3]


def test_tables_and_latents_come_through_pipes(piped):
    table = b"index,score\n4,0.5\n2,0.25\n"
    assert read_indices(piped("table", table)).tolist() == [4, 2]
    found = read_latents_file(piped("latents", b"z0,z1,original\n0.5,1,7\n1.5,2,9\n"))
    assert found.values.tolist() == [[0.5, 1.0], [1.5, 2.0]]
    assert found.numbers.tolist() == [7, 9]


def test_an_empty_pipe_is_reported(piped):
    with pytest.raises(InputError, match=r"is empty \(0 bytes\)"):
        read_indices(piped("nothing", b""))


def test_results_of_piped_latents_need_a_folder(piped):
    opened = open_latents(piped("latents", b"0.5 1\n2 3\n4 5\n"))
    assert opened.z.shape == (3, 2)
    with pytest.raises(ConfigError, match="is a pipe; choose a folder for the results with -o"):
        opened.results("analyze")


def test_particles_are_read_from_files_only(piped):
    with pytest.raises(ConfigError, match=r"is a pipe\. Particles are read from a file"):
        open_particles(ParticleSource(particles=piped("particles", b"data_")))


def test_a_name_of_standard_input_is_kept_and_a_file_of_that_name_can_be_meant():
    assert storage.absolute("-") == "-"
    assert storage.absolute("./-") == os.path.abspath("-")
