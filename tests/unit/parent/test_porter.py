"""What the parent does with its listening sockets: hands them on; opens one more for each slot; closes them all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from hybrid.ground.errors import ListenError
from hybrid.parent import porter as module
from hybrid.parent.porter import PerSlot, Porter
from hybrid.shared.listeners import Listener, another_listener
from tests.unit.parent.pass_world import Lobby, sockets


@pytest.fixture
def lobby() -> Iterator[Lobby]:
    """A house that listens on two addresses, whose ports more sockets may share."""
    lobby = Lobby(2, share_port=True)
    yield lobby
    lobby.close()


def ports(some: list[socket.socket]) -> list[int]:
    """Return where sockets listen."""
    return [each.getsockname()[1] for each in some]


def test_porter_hands_its_listeners_on(lobby: Lobby) -> None:
    """A mold gets them at its start; a spawn needs nothing more; nothing is ever due."""
    porter = Porter(lobby)
    own = [listener.socket for listener in lobby.listeners]
    assert porter.for_new_mold() == own
    assert porter.before_spawn(4) == []
    assert porter.ends_for(0) == ()
    assert porter.deadline is None
    porter.stop_listening()
    assert [sock.fileno() for sock in own] == [-1, -1]


def test_every_slot_gets_a_socket_for_each_address(lobby: Lobby) -> None:
    """Slot-major: what the mold gets at its start, and what it gets before the first spawn, is one list in order."""
    porter = PerSlot(lobby, 64)
    first = ports([listener.socket for listener in lobby.listeners])
    assert ports(porter.for_new_mold()) == first
    assert ports(porter.before_spawn(3)) == first * 2
    porter.stop_listening()


def test_sockets_are_opened_once(lobby: Lobby) -> None:
    """A worker that is replaced uses those of its slot; a mold that is replaced is given all of them."""
    porter = PerSlot(lobby, 64)
    more = porter.before_spawn(3)
    assert porter.before_spawn(3) == []
    assert porter.for_new_mold() == [*(listener.socket for listener in lobby.listeners), *more]
    porter.stop_listening()


def test_one_slot_needs_no_more(lobby: Lobby) -> None:
    """Its sockets are the house's."""
    before = sockets()
    assert PerSlot(lobby, 64).before_spawn(1) == []
    assert sockets() == before


def test_all_or_none_are_opened(lobby: Lobby, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one cannot be had none is kept, the error says which, and the next spawn tries again."""
    before = sockets()

    def until(limit: int) -> Callable[[Listener, int], socket.socket]:
        opened: list[None] = []

        def open_one(listener: Listener, backlog: int) -> socket.socket:
            opened.append(None)
            if len(opened) > limit:
                raise ListenError(f"cannot listen on {listener.address}: Too many open files.")
            return another_listener(listener, backlog)

        return open_one

    porter = PerSlot(lobby, 64)
    monkeypatch.setattr(module, "another_listener", until(3))
    with pytest.raises(ListenError, match="Too many open files"):
        porter.before_spawn(3)
    assert sockets() == before
    monkeypatch.undo()
    assert len(porter.before_spawn(3)) == 4
    porter.stop_listening()


def test_stop_closes_every_copy(lobby: Lobby) -> None:
    """Whoever comes then is refused, as soon as the workers have closed theirs."""
    before = {link for link in sockets() if link}
    porter = PerSlot(lobby, 64)
    porter.before_spawn(3)
    (address, _other) = (listener.socket.getsockname() for listener in lobby.listeners)
    porter.stop_listening()
    assert len(sockets()) == len(before) - 2
    with socket.socket() as late:
        assert late.connect_ex(address) != 0
