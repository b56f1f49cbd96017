"""The manifests are such as Kubernetes takes, their numbers fit each other, and the page shows the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid.cli.resolve import resolve
from hybrid.cli.serve import main
from hybrid.parent.grace import longest_stop_s
from hybrid.shared.settings import Launch, Settings
from tests.docs.pages import ROOT, Page
from tests.support.kubelet import EXAMPLES, Manifest

MANIFEST = Manifest.read()
PAGE = Page("docs/how-to/kubernetes.md")
DOCKERFILE = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def settings() -> Settings:
    """Return what the manifest's command line comes to."""
    return resolve(MANIFEST.container["args"], {}, str(ROOT / "examples"), Launch()).settings


def instruction(name: str) -> list[str]:
    """Return what the Dockerfile says after ``name``, each time."""
    return [str(each) for each in re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)]


def test_command_is_accepted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the manifest's environment, and without a warning."""
    monkeypatch.chdir(ROOT / "examples")
    for name, value in MANIFEST.environment.items():
        monkeypatch.setenv(name, value)
    assert main([*MANIFEST.container["args"], "--print-config"]) == 0
    assert capsys.readouterr().err == ""


def test_times_fit() -> None:
    """The stop fits into the grace, with a little to spare; the delay is longer than a probe takes to fail."""
    timeout, readiness = settings().timeout, MANIFEST.container["readinessProbe"]
    assert MANIFEST.environment["HYBRID_GRACE"] == str(MANIFEST.grace_s)
    assert longest_stop_s(timeout) + 1 <= MANIFEST.grace_s
    assert timeout.drain_delay_s > readiness["periodSeconds"] * readiness["failureThreshold"]
    startup = MANIFEST.container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > timeout.boot_s


def test_ready_file_is_in_a_volume_that_can_be_written() -> None:
    """The root file system is read-only; each probe looks where the server writes."""
    ready = Path(MANIFEST.option("--ready-file"))
    volumes = {each["mountPath"]: each["name"] for each in MANIFEST.container["volumeMounts"]}
    declared = {each["name"]: each for each in MANIFEST.pod["volumes"]}
    assert "emptyDir" in declared[volumes[str(ready.parent)]]
    assert set(volumes.values()) == set(declared)
    for kind in PROBES:
        command = MANIFEST.container[kind]["exec"]["command"]
        assert str(ready) in command or (str(ready.parent) in command and ready.name in command)


def test_probes_say_what_they_are_for(tmp_path: Path) -> None:
    """No file, a fresh one, an old one."""
    ready = tmp_path / "ready"

    def succeed() -> list[bool]:
        commands = [MANIFEST.probe(kind, ready) for kind in PROBES]
        return [not subprocess.call(command, stderr=subprocess.DEVNULL) for command in commands]

    assert succeed() == [False, False, True]
    ready.touch()
    assert succeed() == [True, True, True]
    os.utime(ready, (0, time.time() - 50))
    assert succeed() == [True, True, True]
    os.utime(ready, (0, time.time() - 70))
    assert succeed() == [True, True, False]


def test_service_leads_to_the_pods() -> None:
    """By label, and by the name of a port at which the server listens."""
    service: dict[str, Any] = yaml.safe_load((EXAMPLES / "service.yaml").read_text(encoding="utf-8"))
    (target,) = service["spec"]["ports"]
    (port,) = (each for each in MANIFEST.container["ports"] if each["name"] == target["targetPort"])
    assert service["spec"]["selector"].items() <= MANIFEST.deployment["spec"]["template"]["metadata"]["labels"].items()
    assert settings().bind.bind == (f"0.0.0.0:{port['containerPort']}",)


def test_image_fits_the_manifest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command is process 1 (in brackets), its own arguments are accepted, and the user is the same, by number."""
    monkeypatch.chdir(ROOT / "examples")
    (entry,), (arguments,) = instruction("ENTRYPOINT"), instruction("CMD")
    assert json.loads(entry) == ["hybrid-serve"]
    assert main([*json.loads(arguments), "--print-config"]) == 0
    assert capsys.readouterr().err == ""
    identity = MANIFEST.pod["securityContext"]
    assert instruction("USER") == [f"{identity['runAsUser']}:{identity['runAsGroup']}"]
    sources = [each.split()[0] for each in instruction("COPY") if not each.startswith("--")]
    assert all((ROOT / each).exists() for each in sources)


# ── the page ──


def is_part(shown: Any, whole: Any) -> bool:
    """Return whether everything that ``shown`` says is in ``whole``, too."""
    if isinstance(shown, dict):
        return isinstance(whole, dict) and all(key in whole and is_part(shown[key], whole[key]) for key in shown)
    if isinstance(shown, list):
        return isinstance(whole, list) and all(any(is_part(each, other) for other in whole) for each in shown)
    return bool(shown == whole)


def test_page_shows_the_manifest() -> None:
    """What it shows first is the file's; and the commands of its table are the probes."""
    shown = next(block for block in PAGE.blocks if block.language == "yaml")
    assert is_part(yaml.safe_load(shown.text), MANIFEST.pod)
    assert not is_part({"terminationGracePeriodSeconds": 46}, MANIFEST.pod)
    for kind in ("readinessProbe", "livenessProbe"):
        assert f"`{' '.join(MANIFEST.container[kind]['exec']['command'])}`" in PAGE.text


def test_page_reckons_as_the_server_does() -> None:
    """The seconds of the table are those of the manifest's options."""
    timeout = settings().timeout
    drain, cancel = timeout.drain_delay_s, timeout.drain_delay_s + timeout.grace_s
    steps = (0, drain, cancel, cancel + 1, longest_stop_s(timeout), MANIFEST.grace_s)
    assert re.findall(r"^\| (\d+) \|", PAGE.text, re.MULTILINE) == [f"{each:g}" for each in steps]


def test_probes_without_programs_work(tmp_path: Path) -> None:
    """Those for an image that has an interpreter and nothing else."""
    shown = next(block for block in PAGE.blocks if block.language == "yaml" and "python3" in block.text)
    declared, ready = yaml.safe_load(shown.text), tmp_path / "ready"

    def succeeds(kind: str) -> bool:
        _python, *words = declared[kind]["exec"]["command"]
        words = [word.replace(MANIFEST.option("--ready-file"), str(ready)) for word in words]
        return not subprocess.call([sys.executable, *words], stderr=subprocess.DEVNULL)

    assert not succeeds("readinessProbe") and succeeds("livenessProbe")
    ready.touch()
    assert succeeds("readinessProbe") and succeeds("livenessProbe")
    os.utime(ready, (0, time.time() - 70))
    assert succeeds("readinessProbe") and not succeeds("livenessProbe")
