"""Files of jobs/ and cluster/: they parse, and name commands and options that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

import raydrgn.cli.main  # noqa: F401 - adds the commands that are looked for
from raydrgn.cli.submission import check_command
from raydrgn.remote.jobs import JobSpec

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "jobs").glob("*.yaml"))
CLUSTERS = [ROOT / "cluster" / name for name in ("aws.yaml", "gcp.yaml")]
MANIFESTS = sorted((ROOT / "cluster" / "kuberay").glob("*.yaml"))
SBATCH = ROOT / "cluster" / "slurm" / "raydrgn.sbatch"
PAGES = sorted([*(ROOT / "jobs").glob("*.md"), *(ROOT / "cluster").rglob("*.md")])


def name_of(path):
    return str(path.relative_to(ROOT))


def commands_of(path):
    """Return the raydrgn commands of a page's code, or of a file's comments, joined over lines."""
    text = re.sub(r"\\\n#?\s*", " ", path.read_text())
    begin = "" if path.suffix == ".md" else r"#\s+"
    for line in text.splitlines():
        found = re.match(begin + r"(?:sbatch .*raydrgn\.sbatch|raydrgn) (\w.*)", line)
        if found and "…" not in line and "COMMAND" not in line:
            yield shlex.split(found[1], comments=True)


def test_there_is_something_to_test():
    assert len(SPECS) >= 4
    assert len(MANIFESTS) == 2


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_a_job_spec_names_a_command_and_options_that_exist(path):
    spec = JobSpec.read(path)
    filled = spec.filled(dict.fromkeys(spec.placeholders, "2"), where=path.name)
    check_command(filled.words)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_the_command_of_a_spec_leaves_a_cpu_for_a_worker_on_a_machine_of_two(path):
    assert JobSpec.read(path).entrypoint_num_cpus <= 1


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_the_comment_of_a_spec_fills_all_its_places(path):
    [command] = [words for words in commands_of(path) if words[0] == "submit"]
    given = {word.split("=")[0] for word in command if re.match(r"[A-Z]+=", word)}
    assert given == JobSpec.read(path).placeholders


@pytest.mark.parametrize("path", [*SPECS, *CLUSTERS, *MANIFESTS, SBATCH, *PAGES], ids=name_of)
def test_commands_in_comments_and_pages_exist(path):
    for words in commands_of(path):
        if words[0] == "submit":
            words = words[1:]
            while words and words[0].startswith("--"):
                words = words[1 if words[0] == "--follow" else 2 :]
            if words[0].endswith(".yaml"):
                assert (ROOT / words[0]).is_file()
                continue
        check_command(words)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", CLUSTERS, ids=name_of)
def test_ray_up_takes_the_cluster_files(path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(path.read_text()))
    validate_config(config)
    assert "RAY_AUTH_MODE=token" in " ".join(config["docker"]["run_options"])
    assert config["available_node_types"]["head"]["resources"]["CPU"] == 0


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_manifests_are_those_of_kuberay(path):
    manifest = yaml.safe_load(path.read_text())
    assert manifest["apiVersion"] == "ray.io/v1"
    spec = manifest["spec"]
    if manifest["kind"] == "RayJob":
        program, *words = shlex.split(spec["entrypoint"])
        assert program == "raydrgn"
        check_command(words)
        assert "--resume" in words  # a retry goes on
        environment = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
        assert all(isinstance(value, str) for value in environment.values())
        [workers] = spec["rayClusterSpec"]["workerGroupSpecs"]
        assert words[words.index("--workers") + 1] == str(workers["replicas"])
        spec = spec["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {mount["name"] for box in pod["containers"] for mount in box["volumeMounts"]}
        assert mounts == volumes


def test_the_versions_of_ray_agree():
    import ray

    for path in MANIFESTS:
        assert f'rayVersion: "{ray.__version__}"' in path.read_text()
    dockerfile = (ROOT / "cluster" / "docker" / "Dockerfile").read_text()
    assert f"rayproject/ray:{ray.__version__}-py311" in dockerfile


def test_machines_of_a_cloud_have_an_image_of_their_own_with_a_driver_for_torch():
    """PyPI's torch is built for CUDA 13.0, and Ray's own choice of an image on AWS is of 2022."""
    aws, gcp = (yaml.safe_load(path.read_text())["available_node_types"] for path in CLUSTERS)
    for node in aws.values():
        assert node["node_config"]["ImageId"].startswith("ami-")
    for node in gcp.values():
        image = node["node_config"]["disks"][0]["initializeParams"]["sourceImage"]
        assert int(image.rpartition("-")[2]) >= 580
    for page in ("README.md", "docker/Dockerfile", "aws.yaml", "gcp.yaml"):
        assert "580 or newer" in (ROOT / "cluster" / page).read_text().replace("\n# ", " ")


def test_every_kind_of_cluster_has_the_same_image():
    found = set()
    for path in [*CLUSTERS, *MANIFESTS, ROOT / "cluster" / "docker" / "compose.yaml"]:
        found |= set(re.findall(r"image: \S*?(raydrgn:\S+)", path.read_text()))
    assert len(found) == 1


def test_compose_has_a_head_and_workers():
    compose = yaml.safe_load((ROOT / "cluster" / "docker" / "compose.yaml").read_text())
    head, worker = compose["services"]["head"], compose["services"]["worker"]
    assert "--head" in head["command"]
    assert "--num-gpus 0" in head["command"]  # those of the machine are counted once
    assert worker["deploy"]["replicas"] == 2
    for service in (head, worker):
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["ulimits"]["nofile"]["soft"] == 65535


def test_the_slurm_script_is_bash_and_leaves_other_peoples_ray_alone():
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    code = [line.split(" #")[0] for line in SBATCH.read_text().splitlines()]
    code = [line for line in code if not line.lstrip().startswith("#")]
    assert not any(re.search(r"ray stop|symmetric-run|pkill|killall", line) for line in code)
    assert any("RAY_AUTH_MODE=token" in line for line in code)
