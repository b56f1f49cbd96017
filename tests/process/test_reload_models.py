"""A reload under load, with every way of accepting: nothing is lost."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest

from hybrid.shared.models import MODELS
from tests.process.conftest import Serve
from tests.support.certificates import make_certificates
from tests.support.clients import Crowd
from tests.support.http_clients import Crowd as HttpCrowd
from tests.support.reloads import Site, reload, wait_alone
from tests.support.server import Server

pytestmark = pytest.mark.long

LOOP = tuple(name for name, model in MODELS.items() if model.loop)
BLOCKING = tuple(name for name, model in MODELS.items() if model.threaded)


@pytest.mark.parametrize("accept", LOOP)
def test_http(serve: Serve, tmp_path: Path, accept: str) -> None:
    """Kept connections and new ones."""
    server = serve(Site(tmp_path).target, "--workers", "2", "--accept", accept, "--max-surge", "2")
    with HttpCrowd(server, is_over_when_refused=False).busy(6) as people:
        people.wait_more(50)
        reload(server)
        people.wait_more(50)
        wait_alone(server, 2, 2)
    assert (people.lost, people.refused, people.unaccepted) == ([], 0, 0)
    assert server.stop() == 0


@pytest.mark.parametrize("accept", BLOCKING)
def test_blocking_handlers(serve: Serve, accept: str) -> None:
    """Threads and processes that serve a client each finish it."""
    server = serve("tests.apps.blocking:knobs", "--workers", "2", "--threads", "4", "--accept", accept)
    with Crowd(server).busy(4) as people:
        people.wait_more(50)
        reload(server)
        people.wait_more(50)
    assert (people.lost, people.refused) == ([], [])
    wait_alone(server, 2, 2)
    assert server.stop() == 0


def test_certificates_are_read_anew(serve: Serve, tmp_path: Path) -> None:
    """A renewed one is shown to newcomers after the reload; one that cannot be read changes nothing."""
    made, file = make_certificates(tmp_path), tmp_path / "current.pem"
    shutil.copy(made.server, file)
    server = serve("tests.apps.http_knobs:app", "--workers", "1", "--ssl-certfile", str(file))
    first = shown(server)
    shutil.copy(made.client, file)
    assert shown(server) == first
    reload(server)
    renewed = shown(server)
    assert renewed != first
    file.write_text("no certificate")
    reload(server)
    assert "reload failed: TLS cannot be set up" in server.log
    assert shown(server) == renewed


def shown(server: Server) -> bytes | None:
    """Return the certificate that a newcomer is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(server.connect(), server_hostname="localhost") as client:
        return client.getpeercert(binary_form=True)
