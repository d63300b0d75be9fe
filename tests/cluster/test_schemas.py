"""Files of ``cluster/`` against the published schemas of what reads them; nothing is started.

Pods are checked strictly against Kubernetes' own schema, and the compose file against that of the
Compose specification, both from packages. KubeRay publishes no package of its schemas: fields and
types of its objects are those of its API reference (docs/reference/api.md, ``ray.io/v1``, as of
November 2026), and any other field is refused, as strict field validation does.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError, validate

ROOT = Path(__file__).parent.parent.parent
MANIFESTS = sorted((ROOT / "cluster" / "kuberay").glob("*.yaml"))
COMPOSE = ROOT / "cluster" / "docker" / "compose.yaml"

TEXT, WHOLE, NUMBER, YES = ({"type": t} for t in ("string", "integer", "number", "boolean"))
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY = {"type": "object"}


def fields(*required: str, **known: Any) -> dict[str, Any]:
    """Return the schema of an object that has these fields, and no others."""
    return {
        "type": "object",
        "properties": known,
        "required": list(required),
        "additionalProperties": False,
    }


POD_TEMPLATE = fields("spec", metadata=ANY, spec=ANY)  # the pod itself by Kubernetes' schema

AUTOSCALER = fields(
    resources=ANY,
    image=TEXT,
    imagePullPolicy=TEXT,
    securityContext=ANY,
    idleTimeoutSeconds=WHOLE,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    env={"type": "array"},
    envFrom={"type": "array"},
    volumeMounts={"type": "array"},
)

HEAD = fields(
    "template",
    template=POD_TEMPLATE,
    headService=ANY,
    enableIngress=YES,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=TEXT,
)

WORKERS = fields(
    "groupName",
    "template",
    suspend=YES,
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    idleTimeoutSeconds=WHOLE,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=POD_TEMPLATE,
    scaleStrategy=ANY,
    numOfHosts=WHOLE,
)

CLUSTER = fields(
    "headGroupSpec",
    upgradeStrategy=ANY,
    authOptions=fields(mode={"enum": ["token", "disabled"]}),
    suspend=YES,
    managedBy=TEXT,
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=YES,
    gcsFaultToleranceOptions=ANY,
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)

JOB = fields(
    activeDeadlineSeconds=WHOLE,
    backoffLimit=WHOLE,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=POD_TEMPLATE,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=ANY,
    managedBy=TEXT,
    deletionStrategy=ANY,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    entrypointResources=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=WHOLE,
    shutdownAfterJobFinishes=YES,
    suspend=YES,
)


def manifest_schema(kind, spec):
    return fields(
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=ANY,
        spec=spec,
    )


SCHEMAS = {
    "RayCluster": manifest_schema("RayCluster", CLUSTER),
    "RayJob": manifest_schema("RayJob", JOB),
}


def check_manifest(manifest):
    """Check a manifest and its pods; raises where a field is unknown or has another type."""
    validate(manifest, SCHEMAS[manifest["kind"]], cls=Draft7Validator)
    spec = manifest["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": group["template"].get("metadata", {}),
            "spec": group["template"]["spec"],
        }
        newest = kubernetes_validate.latest_version()
        kubernetes_validate.validate(pod, newest, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_what_kuberay_and_kubernetes_take(path):
    check_manifest(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("minReplicas: 0", "minReplica: 0"),  # a field that KubeRay does not know
        ("maxReplicas: 4", 'maxReplicas: "4"'),
        ("claimName: raydrgn-data", "claim: raydrgn-data"),  # one that Kubernetes does not know
        ('num-cpus: "0"', "num-cpus: 0"),
        ("mode: token", "mode: tokens"),
    ],
)
def test_a_mistake_in_a_manifest_is_found(old, new):
    text = (ROOT / "cluster" / "kuberay" / "raycluster.yaml").read_text()
    assert old in text
    with pytest.raises(ValidationError):
        check_manifest(yaml.safe_load(text.replace(old, new)))


def test_the_compose_file_is_what_the_specification_says():
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    compose = yaml.safe_load(COMPOSE.read_text())
    validate(compose, schema)
    compose["services"]["head"]["comand"] = "ray start"
    with pytest.raises(ValidationError):
        validate(compose, schema)
