"""The windows of ``hybrid-ctl top``: a question before something is done, steps as they come, a long text, a size."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from hybrid.cli.ctl_options import read_size
from hybrid.cli.ctl_words import printable
from hybrid.shared.option_values import Rejected


class Question(ModalScreen[bool]):
    """Yes or no. The result says which."""

    BINDINGS = [
        Binding("y,enter", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, heading: str, text: str) -> None:
        super().__init__()
        self._heading, self._text = heading, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="window small"):
            yield Static(self._heading, classes="heading", markup=False)
            yield Static(self._text, markup=False)
            yield Static("y  yes     n  no", classes="keys", markup=False)

    def action_answer(self, answer: bool) -> None:
        """Close with an answer."""
        self.dismiss(answer)


class Pages(ModalScreen[None]):
    """A long text that may still grow: the steps of a reload, stacks. Escape closes it; nothing is interrupted."""

    BINDINGS = [
        Binding("escape,q,enter", "close", "Close"),
        Binding("down,j", "scroll(1)", "", show=False),
        Binding("up,k", "scroll(-1)", "", show=False),
    ]

    def __init__(self, heading: str) -> None:
        super().__init__()
        self._heading = heading
        self._lines: list[str] = []
        self._note = "escape  close"

    def compose(self) -> ComposeResult:
        with Vertical(classes="window large"):
            yield Static(self._heading, classes="heading", markup=False)
            with VerticalScroll(id="text"):
                yield Static("\n".join(self._lines), id="lines", markup=False)
            yield Static(self._note, classes="keys", id="note", markup=False)

    @property
    def text(self) -> str:
        """All that is shown."""
        return "\n".join(self._lines)

    def add(self, text: str, *, follow: bool = True) -> None:
        """Add lines at the end; ``follow``: and go there."""
        self._lines += printable(text).splitlines()
        if self.is_mounted:
            self.query_one("#lines", Static).update(self.text)
            if follow:
                self.query_one("#text", VerticalScroll).scroll_end(animate=False)

    def say(self, heading: str) -> None:
        """Change the heading: how it ended."""
        self._heading = heading
        if self.is_mounted:
            self.query_one(".heading", Static).update(heading)

    def action_close(self) -> None:
        """Close the window."""
        self.dismiss()

    def action_scroll(self, lines: int) -> None:
        """Move the text by so many lines."""
        self.query_one("#text", VerticalScroll).scroll_relative(y=lines, animate=False)


class SizeAsked(ModalScreen["tuple[int, int] | None"]):
    """Asks how many workers there should be. The result: least and most, 0 as it is; None: never mind."""

    BINDINGS = [Binding("escape", "close", "Close")]

    def __init__(self, now: str) -> None:
        super().__init__()
        self._now = now

    def compose(self) -> ComposeResult:
        with Vertical(classes="window small"):
            yield Static("How many workers?", classes="heading", markup=False)
            yield Static(f"N, or A..B to let the load decide. Now: {self._now}.", markup=False)
            yield Input(placeholder=self._now, id="size")
            yield Static("enter  set     escape  never mind", classes="keys", id="size-note", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the size, or say what is wrong with it."""
        try:
            self.dismiss(read_size(event.value.strip()))
        except Rejected as error:
            note = self.query_one("#size-note", Static)
            note.add_class("wrong")
            note.update(f"{event.value!r}: {error}")

    def action_close(self) -> None:
        """Close without a size."""
        self.dismiss(None)
