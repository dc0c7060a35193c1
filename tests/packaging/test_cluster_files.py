"""The files that start several nodes: Compose and Kubernetes, as far as they can be judged here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import SETTINGS, Settings

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "packaging" / "container" / "cluster"
MANIFESTS = ROOT / "packaging" / "kubernetes" / "isocenter.yaml"
CONTAINER = {"ISOCENTER__STORAGE__DATA_DIR": "/data"}
NODES = ("one", "two")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    found = list(yaml.safe_load_all(MANIFESTS.read_text()))
    return {f"{one['kind']} {one['metadata']['name']}": one for one in found}


@pytest.fixture(scope="module")
def container(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (one,) = pod_of(manifests)["containers"]
    assert isinstance(one, dict)
    return one


def pod_of(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = manifests["StatefulSet isocenter"]["spec"]["template"]["spec"]
    return pod


def settings_of(service: dict[str, Any]) -> Settings:
    return load_settings(environ={**CONTAINER, **service["environment"]})


def monitoring_paths() -> set[str]:
    source = (ROOT / "services/isocenter/services/monitoring/pages.py").read_text()
    return set(re.findall(r'route\("(/[\w/]+)"', source))


def check_shared(settings: Settings) -> None:
    """What nodes need to be one archive, and to be reached."""
    assert settings.is_shared
    assert settings.tls.host == settings.monitoring.host == "0.0.0.0"
    assert settings.tls.certificate is not None
    assert settings.monitoring.token_file is not None
    assert settings.objects.credentials_file is not None


# Compose.


def test_nodes_differ_in_their_names_and_their_data(compose: dict[str, Any]) -> None:
    known = {setting.variable for setting in SETTINGS}
    one, two = (compose["services"][name] for name in NODES)
    for name, service in zip(NODES, (one, two), strict=True):
        used = {key for key in service["environment"] if key.startswith("ISOCENTER_")}
        assert used <= known
        settings = settings_of(service)
        check_shared(settings)
        assert settings.cluster.name == name
        assert service["volumes"] == [f"{name}:/data"]
        assert name in compose["volumes"]
    same = {"environment", "volumes"}
    assert {k: v for k, v in one.items() if k not in same} == {
        k: v for k, v in two.items() if k not in same
    }
    differing = {
        key for key in one["environment"] if one["environment"][key] != two["environment"][key]
    }
    assert differing == {"ISOCENTER__CLUSTER__NODE"}


def test_nodes_are_confined_as_a_single_one_is(compose: dict[str, Any]) -> None:
    single = yaml.safe_load((CLUSTER.parent / "compose.yaml").read_text())["services"]["archive"]
    node = compose["services"]["one"]
    for key in ("read_only", "cap_drop", "security_opt", "user", "tmpfs", "stop_grace_period"):
        assert node[key] == single[key], key
    assert "ports" not in node
    context = (CLUSTER / node["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / node["build"]["dockerfile"]).is_file()


def test_what_the_services_need_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for needed in service.get("depends_on", ()):
            assert needed in compose["services"], (name, needed)
        for secret in service.get("secrets", ()):
            assert secret in compose["secrets"], (name, secret)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (CLUSTER / source).is_file(), volume
            else:
                assert source in compose["volumes"], volume
        mounted = {f"/run/secrets/{secret}" for secret in service.get("secrets", ())}
        named = set(re.findall(r"/run/secrets/[\w.]+", yaml.safe_dump(service)))
        assert named <= mounted, name
    ignored = (CLUSTER / ".gitignore").read_text().split()
    for secret in compose["secrets"].values():
        assert Path(secret["file"]).parts[0] + "/" in ignored


def test_the_database_and_the_bucket_are_those_of_the_nodes(compose: dict[str, Any]) -> None:
    settings = settings_of(compose["services"]["one"])
    database = compose["services"]["database"]["environment"]
    user, name = database["POSTGRES_USER"], database["POSTGRES_DB"]
    assert settings.database.url == f"postgresql://{user}@database:5432/{name}"
    assert "UTF8" in database["POSTGRES_INITDB_ARGS"]
    location = settings.objects.url
    assert location is not None
    assert location.parameters["endpoint"] == "http://objects:8333"
    assert "-s3.port=8333" in compose["services"]["objects"]["command"]
    assert f"s3 mb s3://{location.bucket}" in compose["services"]["bucket"]["command"][0]


def test_the_balancer_asks_each_node_whether_it_is_ready(compose: dict[str, Any]) -> None:
    text = (CLUSTER / "haproxy.cfg").read_text()
    servers = dict(re.findall(r"^\s+server (\w+) (\S+) check port \d+", text, re.MULTILINE))
    settings = settings_of(compose["services"]["one"])
    assert servers == {name: f"{name}:{settings.tls.port}" for name in NODES}
    assert set(re.findall(r"check port (\d+)", text)) == {str(settings.monitoring.port)}
    (path,) = re.findall(r"httpchk GET (\S+)", text)
    assert path in monitoring_paths()
    bound = re.findall(r"bind :(\d+)", text)
    assert compose["services"]["balancer"]["ports"] == [f"{port}:{port}" for port in bound]


def test_prometheus_asks_each_node_by_its_token(compose: dict[str, Any]) -> None:
    scraped = yaml.safe_load((CLUSTER / "prometheus.yaml").read_text())
    (job,) = scraped["scrape_configs"]
    settings = settings_of(compose["services"]["one"])
    assert job["job_name"] == "isocenter"  # what the alerts expect
    (group,) = job["static_configs"]
    assert group["targets"] == [f"{name}:{settings.monitoring.port}" for name in NODES]
    assert job["authorization"]["credentials_file"] == str(settings.monitoring.token_file)
    (rules,) = scraped["rule_files"]
    assert any(volume.endswith(f"/etc/prometheus/{rules}:ro")
               for volume in compose["services"]["prometheus"]["volumes"])  # fmt: skip


# Kubernetes.


def test_the_settings_of_the_manifest_are_settings(
    manifests: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    text = manifests["ConfigMap isocenter"]["data"]["isocenter.toml"]
    assert tomllib.loads(text)
    file = tmp_path / "isocenter.toml"
    file.write_text(text)
    settings = load_settings(file, environ={"ISOCENTER__CLUSTER__NODE": "isocenter-0"})
    check_shared(settings)
    assert settings.cluster.name == "isocenter-0"


def test_each_pod_is_a_node_with_a_name_and_data_of_its_own(
    manifests: dict[str, dict[str, Any]], container: dict[str, Any]
) -> None:
    (variable,) = container["env"]
    assert variable["name"] in {setting.variable for setting in SETTINGS}
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    (claim,) = manifests["StatefulSet isocenter"]["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == "/data"
    volumes = {volume["name"] for volume in pod_of(manifests)["volumes"]}
    for one in (container, *pod_of(manifests)["initContainers"]):
        for mount in one["volumeMounts"]:
            assert mount["name"] in volumes | {claim["metadata"]["name"]}
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
    text = manifests["ConfigMap isocenter"]["data"]["isocenter.toml"]
    named = set(re.findall(r"/(?:secrets|etc/isocenter)/[\w.]+", text))
    assert {str(Path(path).parent) for path in named} <= set(mounts.values())
    made = set(re.findall(r"--from-file=([\w.]+)", MANIFESTS.read_text()))
    assert {Path(path).name for path in named} == made
    config = container["args"][container["args"].index("--config") + 1]
    assert mounts["config"] == str(Path(config).parent)
    assert Path(config).name in manifests["ConfigMap isocenter"]["data"]


def test_probes_and_services_name_ports_that_are_served(
    manifests: dict[str, dict[str, Any]], container: dict[str, Any]
) -> None:
    defaults = load_settings(environ={})
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"dicom-tls": defaults.tls.port, "monitoring": defaults.monitoring.port}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"] in monitoring_paths()
        assert asked["port"] in ports
    for port in ports_of_services(manifests):
        assert port["targetPort"] in ports
        assert port["port"] == ports[port["targetPort"]]
    grace = pod_of(manifests)["terminationGracePeriodSeconds"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace > defaults.deadlines.shutdown + pause + 5


def ports_of_services(manifests: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, one in manifests.items():
        if name.startswith("Service "):
            yield from one["spec"]["ports"]


def test_everything_selects_the_pods(manifests: dict[str, dict[str, Any]]) -> None:
    labels = manifests["StatefulSet isocenter"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["StatefulSet isocenter"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["PodDisruptionBudget isocenter"]["spec"]["selector"]["matchLabels"] == labels
    governing = manifests["StatefulSet isocenter"]["spec"]["serviceName"]
    assert manifests[f"Service {governing}"]["spec"]["clusterIP"] == "None"
    for name, one in manifests.items():
        if name.startswith("Service "):
            assert one["spec"]["selector"] == labels


def test_the_image_has_what_several_nodes_need() -> None:
    locked = (ROOT / "packaging" / "requirements.lock").read_text()
    for name in ("psycopg-binary", "obstore"):
        assert re.search(rf"^{name}==", locked, re.MULTILINE), name
