"""``hybrid-ctl top``: a live view of a server, from which it is reloaded, scaled and looked into.

It subscribes to the op ``watch`` for snapshots and to ``events`` for what happens, each on a connection of its own, and
opens both anew when the server goes away: it finds the one that is started in its place.

Runs in: ``hybrid-ctl``, with textual's loop (docs/decisions/0019-textual.md).
"""

from __future__ import annotations

import asyncio
import textwrap
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.css.query import DOMQuery
from textual.screen import Screen
from textual.widgets import Footer, RichLog, Static

from hybrid.cli import top_panels
from hybrid.cli.ctl_client import Refused, Unreached
from hybrid.cli.ctl_notices import is_news, kind_of, line_of, notice_in
from hybrid.cli.ctl_options import size_args
from hybrid.cli.ctl_words import bounds
from hybrid.cli.top_link import Link, SocketLink
from hybrid.cli.top_look import PALETTES, THEMES, Palette, theme_of
from hybrid.cli.top_panels import METERS, MeterPanel, Snapshot
from hybrid.cli.top_screens import Pages, Question, SizeAsked
from hybrid.cli.top_table import WorkersTable
from hybrid.ground.errors import ControlExit

RETRY_S = 0.5
"""Between two attempts to reach a server that went away."""
PAST = 200
"""Events of the past that are asked for."""
MOST_TOLD = 500
"""Events that one can scroll back to."""


def run(values: Mapping[str, Any]) -> int:
    """Show the view until the user quits. ``values``: of the command's options. Raises: as :func:`find`."""
    link = SocketLink(values["pid"] or 0, values["control"])
    app = TopApp(link, values["every"], theme_of(values["theme"]))
    app.run()
    return ControlExit.DONE if app.return_code in (0, None) else ControlExit.REFUSED


class TopApp(App[None]):
    """The view. Closes: its connections, with itself.

    Args: every_s: time between two snapshots. look: the name of a theme of :mod:`hybrid.cli.top_look`.
    """

    CSS_PATH = "top.tcss"
    TITLE = "hybrid-ctl top"
    ENABLE_COMMAND_PALETTE = False
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-tall")]
    BINDINGS = [
        Binding("r", "reload", "Reload"),
        Binding("plus,equals_sign", "scale(1)", "Scale", key_display="+ -"),
        Binding("minus", "scale(-1)", "", show=False),
        Binding("n", "size", "Size"),
        Binding("p", "park", "Park"),
        Binding("d", "drain", "Drain"),
        Binding("D", "dump", "Stacks", key_display="D"),
        Binding("s", "sort", "Sort"),
        Binding("t", "other_theme", "Theme"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, link: Link, every_s: float = 1.0, look: str = "hybrid-dark") -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = look
        self._link = link
        self._every_s = every_s
        self._snapshot: Snapshot | None = None
        self._told: deque[Mapping[str, Any]] = deque(maxlen=MOST_TOLD)
        self._is_reloading = False
        self._view: Screen[Any] | None = None
        self.lost = ""
        """Why there is no news; empty: there is."""

    @property
    def palette(self) -> Palette:
        """The colours of the theme that is shown."""
        return PALETTES[self.theme]

    def compose(self) -> ComposeResult:
        with Horizontal(id="first"):
            yield Static(id="title")
            yield Static(id="identity")
            yield Static(id="phase")
        yield Static(id="size-line")
        with Horizontal(id="meters"):
            for meter in METERS:
                yield MeterPanel(meter)
        yield Static(id="sums")
        yield WorkersTable()
        yield RichLog(id="log", max_lines=4 * MOST_TOLD, wrap=False, markup=False, highlight=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to watch."""
        self._view = self.screen
        self._tint()
        self.query_one("#title", Static).update(Text("looking for the server …", self.palette.muted))
        self._pane().can_focus = False
        self._table().focus()
        self.run_worker(self._keep(self._watch), exclusive=False)
        self.run_worker(self._keep(self._listen), exclusive=False)

    def _table(self) -> WorkersTable:
        return (self._view or self.screen).query_one(WorkersTable)

    def _panels(self) -> DOMQuery[MeterPanel]:
        return (self._view or self.screen).query(MeterPanel)

    def _pane(self) -> RichLog:
        return (self._view or self.screen).query_one("#log", RichLog)

    # ── news ──

    async def _keep(self, subscribe: Any) -> None:
        """Subscribe, again and again."""
        while True:
            try:
                await subscribe()
                self._lose("the server ended the conversation")
            except (Unreached, Refused) as error:
                self._lose(str(error))
            await asyncio.sleep(RETRY_S)

    async def _watch(self) -> None:
        await self._link.ask("watch", {"every_s": self._every_s}, self._on_snapshot)

    async def _listen(self) -> None:
        self._told.clear()
        self._write_anew()
        await self._link.ask("events", {"follow": True, "last": PAST}, self._on_notice)

    def _on_snapshot(self, event: Mapping[str, Any]) -> None:
        snapshot = event.get("snapshot", event)
        if "totals" not in snapshot:
            return
        self.lost = ""
        self._snapshot = snapshot
        for panel in self._panels():
            panel.take(snapshot)
        self._draw()

    def _on_notice(self, event: Mapping[str, Any]) -> None:
        notice = notice_in(event)
        if is_news(notice):
            self._told.append(notice)
            self._write(notice)

    def _write(self, notice: Mapping[str, Any]) -> None:
        """Add a notice's line to the pane, wrapped so that its time stands alone at the left."""
        pane = self._pane()
        width = pane.scrollable_content_region.width
        if width:  # else it is not laid out yet: they are written when it is
            lines = textwrap.wrap(line_of(notice), width, subsequent_indent=" " * 10)
            pane.write(Text("\n".join(lines), self._colour_of(kind_of(notice), notice)), width=width)

    def _write_anew(self) -> None:
        self._pane().clear()
        for notice in self._told:
            self._write(notice)

    def _colour_of(self, kind: str, notice: Mapping[str, Any]) -> str:
        palette = self.palette
        if kind == "logged":
            level = str(notice.get("level") or "").lower()
            return {"error": palette.bad, "critical": palette.bad, "warning": palette.notable}.get(level, palette.muted)
        if kind == "reload_ended" and not notice.get("ok"):
            return palette.bad
        if kind in ("resized", "reload_step", "reload_ended"):
            return palette.moving
        return palette.muted

    def _lose(self, why: str) -> None:
        self.lost = why
        self._draw()

    # ── drawing ──

    def _draw(self) -> None:
        view, palette = self._view, self.palette
        if view is None:
            return
        if self.lost:
            first = self.lost.splitlines()[0]
            view.query_one("#phase", Static).update(Text("no answer, trying again", f"bold {palette.bad}"))
            view.query_one("#sums", Static).update(Text(first, palette.bad, no_wrap=True, overflow="ellipsis"))
        view.set_class(bool(self.lost), "lost")
        snapshot = self._snapshot
        if snapshot is None or self.lost:
            return
        view.query_one("#title", Static).update(top_panels.title(snapshot, palette, self.size.width))
        view.query_one("#phase", Static).update(top_panels.phase(snapshot, palette))
        view.query_one("#size-line", Static).update(top_panels.how_large(snapshot, palette, self.size.width - 2))
        view.query_one("#identity", Static).update(top_panels.identity(snapshot, palette, self.size.width))
        view.query_one("#sums", Static).update(top_panels.sums(snapshot, palette, self.size.width - 2))
        view.query_one(WorkersTable).show(snapshot["workers"], palette)

    def _tint(self) -> None:
        for panel in self._panels():
            panel.palette = self.palette
            panel.refresh()

    def on_resize(self) -> None:
        """Show what fits now."""
        self._draw()
        self.call_after_refresh(self._write_anew)

    # ── keys ──

    def action_other_theme(self) -> None:
        """Go from dark to light, or back."""
        self.theme = "hybrid-light" if self.theme == "hybrid-dark" else "hybrid-dark"
        self._tint()
        self._table().forget_layout()
        self._draw()
        self._write_anew()

    def action_sort(self) -> None:
        """Sort by the next column."""
        if self._snapshot is not None:
            self._table().sort_by_next(self._snapshot["workers"], self.palette)

    def action_reload(self) -> None:
        """Ask, then reload and show the steps."""
        if self._is_reloading:
            self.notify("A reload is under way.")
            return
        text = "All workers are replaced by ones with new code and settings. If those do not boot, these serve on."
        self.push_screen(Question("Reload?", text), self._reload_if)

    def _reload_if(self, is_wanted: bool | None) -> None:
        if is_wanted:
            self._start(self._reload())

    async def _reload(self) -> None:
        pages = Pages("Reloading …")
        await self.push_screen(pages)
        self._is_reloading = True
        try:
            await self._link.ask("reload", {}, lambda event: pages.add(line_of(notice_in(event))))
            pages.say("Reloaded: all workers are new.")
            self.notify("Reloaded.")
        except (Refused, Unreached) as error:
            pages.add(error.detail)
            pages.add(str(error))
            pages.say("The reload failed. What served before serves on.")
            self.notify(str(error), title="The reload failed", severity="error")
        finally:
            self._is_reloading = False

    def action_scale(self, step: int) -> None:
        """Ask for a worker more, or one fewer: at once where the size is fixed, else after a question."""
        if self._snapshot is None:
            return
        pool = self._snapshot["pool"]
        wanted = max(1, int(pool["target"]) + step)
        if wanted == pool["target"]:
            self.notify("One worker is the least.")
        elif bounds(pool) == "fixed":
            self._start(self._do("scale", {"workers": wanted}, f"{wanted} workers asked for."))
        else:
            text = (
                f"The load decides now, within {bounds(pool)}. With {wanted} it decides no more; give bounds again "
                "with n."
            )
            done = f"{wanted} workers asked for."
            self.push_screen(
                Question(f"Fix the size at {wanted}?", text),
                lambda yes: self._start(self._do("scale", {"workers": wanted}, done)) if yes else None,
            )

    def action_size(self) -> None:
        """Ask how many, or within which bounds."""
        if self._snapshot is not None:
            pool = self._snapshot["pool"]
            now = str(pool["target"]) if bounds(pool) == "fixed" else bounds(pool)
            self.push_screen(SizeAsked(now), self._scale_to)

    def _scale_to(self, size: tuple[int, int] | None) -> None:
        if size is not None:
            self._start(self._do("scale", size_args(size), "Asked for."))

    def action_park(self) -> None:
        """Park the selected worker, or let it accept again."""
        row = self._selected()
        if row is not None:
            op = "unpark" if str(row["life"]).lower() == "parked" else "park"
            self._start(self._do(op, {"slot": row["slot"]}, f"Worker {row['slot']}: {op} asked for."))

    def action_drain(self) -> None:
        """Ask, then let the selected worker finish and leave."""
        row = self._selected()
        if row is None:
            return
        slot = row["slot"]
        text = f"It finishes its {row.get('connections') or 0} connections and leaves; another takes its slot."
        self.push_screen(
            Question(f"Drain worker {slot}?", text),
            lambda yes: self._start(self._do("drain", {"slot": slot}, f"Worker {slot} drains.")) if yes else None,
        )

    def action_dump(self) -> None:
        """Show what the selected worker does now."""
        row = self._selected()
        if row is not None:
            self._start(self._dump(int(row["slot"])))

    async def _dump(self, slot: int) -> None:
        pages = Pages(f"Worker {slot}: what it does now")
        await self.push_screen(pages)
        try:
            found = await self._link.ask("dump", {"slot": slot})
            pages.add(str(found.get("stacks") or found.get("text") or "nothing was told"), follow=False)
        except (Refused, Unreached) as error:
            pages.add(str(error))

    def _selected(self) -> Mapping[str, Any] | None:
        slot = self._table().selected_slot
        rows = self._snapshot["workers"] if self._snapshot is not None else ()
        return next((row for row in rows if row["slot"] == slot), None)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.run_worker(work, exclusive=False)

    async def _do(self, op: str, args: Mapping[str, object], done: str) -> None:
        """Ask the server for something, and say how it went."""
        try:
            found = await self._link.ask(op, args)
            self.notify(str(found.get("text") or done))
        except (Refused, Unreached) as error:
            self.notify(str(error), title="The server did not", severity="error")
