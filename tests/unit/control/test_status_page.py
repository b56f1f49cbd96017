"""The page's files, headers and events, without a browser."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator

import pytest

from hybrid.control.broadcast import Broadcast
from hybrid.control.past import Past
from hybrid.control.sampler import Sampler
from hybrid.control.status_page import FILES, FIRST_NOTICES, FOLDER, POLICY, newer, routes, takes_gzip
from hybrid.control.web import Answer, Request, Routes
from hybrid.shared.notices import KINDS, Answered, Logged, PoolState
from tests.support.fake_pool import FakePool

MOST_PACKED_BYTES = 42_000
"""Of all files together, as they travel."""
WAYS_TO_MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"


@pytest.fixture
def page() -> Iterator[Routes]:
    """The routes, of a pool that does not exist."""
    pool = FakePool(1)
    sampler = Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: 0)
    yield routes(pool, Broadcast(pool, sampler), Past(pool, sampler))
    pool.close()


async def get(page: Routes, path: str, **headers: str) -> Answer:
    """Return the answer; header names have underscores."""
    return await page[path](Request(path, headers={name.replace("_", "-"): value for name, value in headers.items()}))


async def test_policy_goes_with_every_file(page: Routes) -> None:
    """No inline script or style, no other host, no frame."""
    for path in FILES:
        answer = await get(page, path)
        assert answer.status == 200 and dict(answer.headers)["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY and "http" not in POLICY and "*" not in POLICY


def test_page_needs_no_exception_from_the_policy() -> None:
    """No inline script, handler or style in the markup; no address of another host in any file of ours."""
    markup = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|javascript:", markup)
    for name in FILES.values():
        text = (FOLDER / name).read_text()
        addresses = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses or (name.startswith("uplot/") and addresses == {"https://github.com/leeoniya/uPlot"})


PAIRS = [
    *(("text", ground, 7.0) for ground in ("ground", "card", "track")),
    *(("quiet", ground, 4.5) for ground in ("ground", "card", "track")),
    *((mood, f"{mood}-soft", 4.5) for mood in ("good", "warn", "bad", "idle", "wait")),
    *((mood, "card", 4.5) for mood in ("good", "warn", "bad", "accent")),
    *((line, "card", 3.0) for line in ("chart", "chart-2", "use", "waits")),
]
"""What stands on what, and the least contrast: WCAG 2.1 §1.4.3, §1.4.11."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_told_from_what_it_stands_on(scheme: str) -> None:
    """In both schemes."""
    light, dark = re.findall(r":root \{(.*?)\}", (FOLDER / "page.css").read_text(), re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", light if scheme == "light" else dark))
    weak = [
        (front, behind, round(found, 2))
        for front, behind, least in PAIRS
        if (found := contrast(colours[front], colours[behind])) < least
    ]
    assert not weak


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21. Source: WCAG 2.1, relative luminance, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Return how bright it is, 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_never_becomes_markup() -> None:
    """No way from a string to elements or code in our scripts, nor in the library's."""
    for path in FOLDER.rglob("*.js"):
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()
        )
        assert not found, (path, found)


async def test_all_that_the_page_loads_is_served(page: Routes) -> None:
    """Every file that markup and modules name has a route, and every file of the folder but the licence is named."""
    markup = (FOLDER / "index.html").read_text()
    named = {f"/{name}" for name in re.findall(r'(?:src|href)="(page/[^"]+)"', markup)}
    for script in FOLDER.glob("*.js"):
        named |= {f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    assert named == FILES.keys() - {"/"}
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert there == {*FILES.values(), "uplot/LICENSE"}


async def test_files_are_small(page: Routes) -> None:
    """All of them, packed."""
    sizes = {path: len((await get(page, path, accept_encoding="gzip, br")).body) for path in FILES}  # type: ignore[arg-type]  # bytes
    assert sum(sizes.values()) <= MOST_PACKED_BYTES, sizes


async def test_file_is_packed_for_who_can_unpack_it(page: Routes) -> None:
    """And for nobody else."""
    plain, packed = await get(page, "/"), await get(page, "/", accept_encoding="gzip")
    assert isinstance(plain.body, bytes) and isinstance(packed.body, bytes)
    assert gzip.decompress(packed.body) == plain.body
    assert ("content-encoding", "gzip") in packed.headers and ("content-encoding", "gzip") not in plain.headers


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("x-gzip; q=1.000", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
    ],
)
def test_gzip_is_sent_to_who_takes_it(accepted: str, taken: bool) -> None:
    """A weight of nothing forbids it."""
    assert takes_gzip(accepted) is taken


async def test_file_that_is_known_is_not_sent_again(page: Routes) -> None:
    """304 for the tag that came with it; another tag gets the file."""
    tag = dict((await get(page, "/page/page.js")).headers)["etag"]
    again = await get(page, "/page/page.js", if_none_match=tag)
    assert (again.status, again.body) == (304, b"")
    assert (await get(page, "/page/page.js", if_none_match='"other"')).status == 200


def test_page_that_is_opened_is_told_a_part_of_the_past() -> None:
    """The last ones, oldest first; answers and the pool's state are not among them."""
    history = [Logged(number=number) for number in range(1, 500)]
    found = newer([*history, Answered(number=500), PoolState(number=501)], 0)
    assert [each.number for each in found] == list(range(500 - FIRST_NOTICES, 500))
    assert [each.number for each in newer(history, 497)] == [498, 499]
    assert newer([], 5) == []


def test_every_notice_has_words() -> None:
    """The page shows each kind that there is; no line of ours says "undefined"."""
    words = (FOLDER / "words.js").read_text()
    named = set(re.findall(r"^  (\w+): \(e\) => ", words, re.MULTILINE))
    assert named == KINDS.keys() - {"pool_state", "answered"}
    for kind, fields in re.findall(r"^  (\w+): \(e\) => (.*?)\}\)", words, re.MULTILINE | re.DOTALL):
        known = KINDS[kind].__dataclass_fields__.keys()
        assert set(re.findall(r"\be\.(\w+)", fields)) <= known, kind
