"""Becoming another user, for good. The children become it; the test's process stays as it is."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable

import pytest

from hybrid.ground.errors import HybridError, UsageError
from hybrid.shared.privileges import Identity, drop, resolve_user
from tests.support.forked import NOBODY, forked

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

US = pwd.getpwuid(os.geteuid())


def test_nothing_asked_for_is_who_we_are() -> None:
    """Without --user and --group the identity is our own."""
    identity = resolve_user("", "")
    assert (identity.uid, identity.gid) == (os.geteuid(), os.getegid())
    assert identity.is_ours()


@pytest.mark.parametrize("user", [US.pw_name, str(US.pw_uid)])
def test_our_own_user_is_found_by_name_and_number(user: str) -> None:
    """A user is named or numbered; group and home come from the database."""
    identity = resolve_user(user, "")
    assert (identity.uid, identity.gid, identity.name, identity.home) == (US.pw_uid, US.pw_gid, US.pw_name, US.pw_dir)


@pytest.mark.parametrize("user", ["no-such-user", "-1", "4294967295", "٣"])
def test_unknown_user_is_a_usage_error(user: str) -> None:
    """The message names the option and the value."""
    with pytest.raises(UsageError, match=f"cannot use --user {user}: no such user"):
        resolve_user(user, "")


@pytest.mark.parametrize("group", ["no-such-group", "-1"])
def test_unknown_group_is_a_usage_error(group: str) -> None:
    """The message names the option and the value."""
    with pytest.raises(UsageError, match=f"cannot use --group {group}: no such group"):
        resolve_user("", group)


def unused_id() -> int:
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
    return next(number for number in range(40_000, 60_000) if number not in taken)


def test_number_without_an_entry_needs_a_group() -> None:
    """A uid that the database does not know has no group of its own."""
    with pytest.raises(UsageError, match=r"its group is unknown\. Add --group"):
        resolve_user(str(unused_id()), "")


def test_dropping_to_who_we_are_changes_nothing_but_the_environment() -> None:
    """The server's own user may be named by anyone, root or not."""

    def work() -> object:
        before = (os.getresuid(), os.getresgid(), os.getgroups())
        drop(resolve_user("", ""))
        assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
        return os.environ["HOME"], os.environ["USER"], os.environ["LOGNAME"]

    assert forked(work) == str((US.pw_dir, US.pw_name, US.pw_name))


@pytest.mark.root
@needs_root
def test_identity_is_taken_on_for_good() -> None:
    """After the drop all ids are the user's, no group of root's is left, and root cannot be had back."""

    def work() -> object:
        drop(resolve_user("nobody", ""))
        ways_back: tuple[Callable[[], object], ...] = (
            lambda: os.setuid(0),
            lambda: os.setresuid(0, 0, 0),
            lambda: os.setgid(0),
            lambda: os.setgroups([]),
        )
        for regain in ways_back:
            with pytest.raises(PermissionError):
                regain()
        return os.getresuid(), os.getresgid(), 0 in os.getgroups(), os.environ["USER"]

    entry = pwd.getpwnam("nobody")
    assert forked(work) == str(((entry.pw_uid,) * 3, (entry.pw_gid,) * 3, False, "nobody"))


@pytest.mark.root
@needs_root
def test_group_alone_keeps_the_user() -> None:
    """--group without --user changes the group only."""
    group = grp.getgrgid(os.getgrouplist("nobody", pwd.getpwnam("nobody").pw_gid)[0])

    def work() -> object:
        drop(resolve_user("", group.gr_name))
        return os.geteuid(), os.getegid()

    assert forked(work) == str((os.geteuid(), group.gr_gid))


@pytest.mark.root
@needs_root
def test_uid_and_gid_without_entries_are_enough() -> None:
    """Numbers that no database knows, as containers use them."""
    number = unused_id()

    def work() -> object:
        drop(resolve_user(str(number), str(number)))
        return os.getresuid(), os.getresgid(), os.getgroups()

    assert forked(work) == str(((number,) * 3, (number,) * 3, [number]))


@pytest.mark.root
@needs_root
def test_only_root_may_name_another_user() -> None:
    """A server without privileges says so instead of failing in the mold."""

    def work() -> object:
        for user, group in (("root", ""), ("", "root"), ("root", "root")):
            with pytest.raises(UsageError, match="only root can become another user or group") as caught:
                resolve_user(user, group)
            assert f"runs with uid {NOBODY}" in str(caught.value)
        resolve_user(str(NOBODY), str(NOBODY))
        return "refused"

    assert forked(work, uid=NOBODY) == "refused"


@pytest.mark.root
@needs_root
def test_drop_that_does_not_take_is_an_error() -> None:
    """An identity that the kernel does not give is an error, never a server that runs on as somebody else."""

    def work() -> object:
        with pytest.raises(HybridError, match="did not become uid 0"):
            drop(Identity(0, 0, ()))
        return "refused"

    assert forked(work, uid=NOBODY) == "refused"


@pytest.mark.root
@needs_root
def test_way_back_to_root_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that could become root again has not dropped anything."""

    def work() -> object:
        monkeypatch.setattr(os, "setuid", lambda _uid: None)
        with pytest.raises(HybridError, match="can still become root"):
            drop(resolve_user("nobody", ""))
        return "refused"

    assert forked(work) == "refused"
