"""Proxies take the examples' configurations, the page shows what is in them, and autoscalers ask for what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid.cli.resolve import resolve
from hybrid.control.capacity import Capacity
from hybrid.control.metric_table import every_spec
from hybrid.shared.settings import Launch
from tests.docs.pages import ROOT, Page
from tests.docs.test_kubernetes import is_part
from tests.support.kubelet import EXAMPLES, Manifest
from tests.support.proxies import MACHINES, PROXIES, command_of, settings_of

PAGE = Page("docs/how-to/several-machines.md")
each_proxy = pytest.mark.parametrize("name", list(PROXIES))


def said(name: str, folder: Path, old: str = "", new: str = "") -> tuple[int, str]:
    """Have a proxy look at its example, with something in it changed; return the exit code, and what it says."""
    file = settings_of(name, folder, MACHINES)
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new) if old else text, encoding="utf-8")
    done = subprocess.run(
        command_of(name, file, check=True), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
    )
    return done.returncode, done.stdout


# ── proxies ──


@each_proxy
def test_proxy_takes_the_example(name: str, tmp_path: Path) -> None:
    """Without a warning."""
    code, words = said(name, tmp_path)
    assert code == 0, words
    assert not re.search("warn|alert|emerg", words, re.IGNORECASE), words


@pytest.mark.parametrize(("name", "word"), [("haproxy", "leastconn"), ("nginx", "least_conn")])
def test_guard_sees_what_a_proxy_does_not_take(name: str, word: str, tmp_path: Path) -> None:
    """The check above says no where it should."""
    code, words = said(name, tmp_path, word, "as_you_like_it")
    assert code != 0, words


def directives(text: str) -> list[str]:
    """Return the lines of a configuration that say something."""
    lines = [re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*$", "", line)).strip() for line in text.splitlines()]
    return [line for line in lines if line]


@each_proxy
def test_page_shows_what_is_in_the_example(name: str) -> None:
    """Line by line, in the same order."""
    (block,) = [block for block in PAGE.blocks if block.language == name]
    left = iter(directives(PROXIES[name].read_text(encoding="utf-8")))
    assert [line for line in directives(block.text) if line not in left] == []


def test_commands_of_the_examples_fit_them() -> None:
    """The balancer goes to the ports of the command in the file's head; the delay outlasts its period."""
    for file in PROXIES.values():
        text = file.read_text(encoding="utf-8")
        (command,) = re.findall(r"^#   hybrid-serve (.*)$", text, re.MULTILINE)
        settings = resolve(command.split(), {}, str(ROOT), Launch()).settings
        assert settings.bind.bind == (f"0.0.0.0:{MACHINES[0].rpartition(':')[2]}",)
        assert settings.timeout.drain_delay_s > 2
        if agent := re.search(r"agent-port (\d+)", text):
            assert settings.control.agent_bind == f"0.0.0.0:{agent[1]}"


def test_table_of_weights_is_the_formula() -> None:
    """The page reckons as the agent does."""
    loads, weights = (
        [float(cell.strip(" %")) for cell in row.split("|")[2:-1]]
        for row in re.findall(r"^\| (?:load \| 0 |weight \| 100 ).*$", PAGE.text, re.MULTILINE)
    )
    assert weights == [-(-100 * Capacity(load, 1.0).weight // 1) for load in loads]


# ── Kubernetes ──


def manifest(name: str) -> dict[str, Any]:
    """Return an example."""
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    return found


METRICS = {spec.shown for spec in every_spec()}


def test_prometheus_reads_the_pods() -> None:
    """By their label, at the port at which they tell; the page is not at the service's port."""
    deployment, monitor = Manifest.read(), manifest("podmonitor.yaml")["spec"]
    labels = deployment.deployment["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    (port,) = (each for each in deployment.container["ports"] if each["name"] == endpoint["port"])
    assert deployment.option("--metrics-bind") == f"0.0.0.0:{port['containerPort']}"
    assert endpoint["path"] == "/metrics"


def test_autoscaler_asks_for_what_the_adapter_makes() -> None:
    """Of a metric that there is; for the deployment that there is."""
    scaler = manifest("autoscale.yaml")["spec"]
    (rule,) = manifest("prometheus-adapter.yaml")["rules"]["custom"]
    (metric,) = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    series = re.match(r"\w+", rule["seriesQuery"])
    assert series and series[0] in METRICS
    assert re.fullmatch(rule["name"]["matches"], series[0])
    assert scaler["scaleTargetRef"]["name"] == Manifest.read().deployment["metadata"]["name"]
    assert scaler["scaleTargetRef"]["kind"] == Manifest.read().deployment["kind"]


def test_keda_does_the_same() -> None:
    """The same metric, the same target, the same limits and manners."""
    scaler, keda = manifest("autoscale.yaml")["spec"], manifest("keda.yaml")["spec"]
    (trigger,) = keda["triggers"]
    names = re.findall(r"hybrid_\w+", trigger["metadata"]["query"])
    assert names and set(names) <= METRICS
    assert (
        f"{round(1000 * float(trigger['metadata']['threshold']))}m"
        == (scaler["metrics"][0]["pods"]["target"]["averageValue"])
    )
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (scaler["minReplicas"], scaler["maxReplicas"])
    assert keda["scaleTargetRef"]["name"] == scaler["scaleTargetRef"]["name"]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == scaler["behavior"]


def test_page_shows_the_autoscaler() -> None:
    """What it shows is the file's."""
    (shown,) = [block for block in PAGE.blocks if block.language == "yaml"]
    assert is_part(yaml.safe_load(shown.text), manifest("autoscale.yaml")["spec"])


def test_page_names_every_manifest() -> None:
    """A file that nobody is told of rots."""
    assert {f"../../examples/kubernetes/{file.name}" for file in EXAMPLES.glob("*.yaml")} <= {
        *PAGE.links,
        *Page("docs/how-to/kubernetes.md").links,
    }
