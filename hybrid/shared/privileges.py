"""Whom app code runs as: resolved once by the parent, taken on by the mold between fork and exec.

The order of the calls matters: groups first, while we still may, the uid last. It is checked that root cannot be
had back: a saved uid of 0 would give it to any code in the app.

Source: credentials(7), setresuid(2), setgroups(2); initgroups(3).
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from hybrid.ground.errors import HybridError, UsageError


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to be. ``groups``: supplementary ones. ``name`` and ``home`` are empty for a uid without an entry."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str = ""
    home: str = ""

    def is_ours(self) -> bool:
        """Say whether this process already is that user and group, in every respect."""
        same = os.getresuid() == (self.uid,) * 3 and os.getresgid() == (self.gid,) * 3
        return same and set(os.getgroups()) | {self.gid} == set(self.groups) | {self.gid}


def resolve_user(user: str, group: str) -> Identity:
    """Return who ``--user`` and ``--group`` mean, by name or number; empty: as we are.

    Without ``--group`` the user's own group is taken; supplementary groups are the user's in both cases.

    Raises: UsageError: no such user or group, or this process may not become it.
    """
    entry = _user_entry(user) if user else None
    if user:
        uid = entry.pw_uid if entry else int(user)
    else:
        uid = os.geteuid()
        entry = _entry_of(uid)
    gid = _group_id(group) if group else (entry.pw_gid if entry and user else os.getegid())
    if user and entry is None and not group:
        raise UsageError(f"cannot use --user {user}: no user has this number, so its group is unknown. Add --group.")
    identity = Identity(
        uid, gid, _groups(entry, user, gid), entry.pw_name if entry else "", entry.pw_dir if entry else ""
    )
    if os.geteuid() != 0 and not _allowed_without_root(identity):
        option = f"--user {user}" if user else f"--group {group}"
        raise UsageError(
            f"cannot use {option}: only root can become another user or group, and this process runs with uid "
            f"{os.geteuid()}. Start it as root or leave the option out."
        )
    return identity


def drop(identity: Identity) -> None:
    """Become ``identity`` for good; HOME, USER and LOGNAME follow, for the program that is executed next.

    Runs in: the parent's child, between fork and exec. A no-op, but for the environment, when it already is so.
    Raises: HybridError: the kernel refused, or root could be had back; the caller must exit.
    """
    try:
        if os.geteuid() == 0 and not identity.is_ours():
            os.setgroups(identity.groups)
            os.setresgid(identity.gid, identity.gid, identity.gid)
            os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise HybridError(
            f"cannot become uid {identity.uid}, gid {identity.gid}: {error.strerror}. Give the server CAP_SETUID and "
            "CAP_SETGID, or leave --user and --group out."
        ) from error
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise HybridError(f"did not become uid {identity.uid}, gid {identity.gid}: the ids are other ones afterwards")
    if identity.uid != 0 and _can_become_root():
        raise HybridError(f"did not become uid {identity.uid} for good: this process can still become root")
    if identity.name:
        os.environ.update(HOME=identity.home, USER=identity.name, LOGNAME=identity.name)


def _can_become_root() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True


def _allowed_without_root(identity: Identity) -> bool:
    """Nothing but what we already are can be had. Supplementary groups are then left as they are."""
    return os.getresuid() == (identity.uid,) * 3 and os.getresgid() == (identity.gid,) * 3


def _groups(entry: pwd.struct_passwd | None, user: str, gid: int) -> tuple[int, ...]:
    if not user:
        return tuple(os.getgroups())
    return tuple(os.getgrouplist(entry.pw_name, gid)) if entry else (gid,)


def _user_entry(user: str) -> pwd.struct_passwd | None:
    """Return the entry; None for a number without one. Raises: UsageError: no such name."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        if _is_id(user):
            return _entry_of(int(user))
    raise UsageError(f"cannot use --user {user}: no such user. Use a name or a number from the user database.")


def _entry_of(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if _is_id(group):
            return int(group)
    raise UsageError(f"cannot use --group {group}: no such group. Use a name or a number from the group database.")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < (1 << 32) - 1  # the last one means "unchanged"
