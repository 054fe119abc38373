"""The pictures of a demo's page: inline SVG, coloured by the page's CSS variables. Pure.

The whole run is drawn twice: lying (time to the right) for wide screens, standing (time downwards)
for phones. Both use the same shapes through ``Axis``.
"""

from dataclasses import dataclass
from html import escape

from openmse.lab.report_story import GAP_MS, Story, Stretch, zoom
from openmse.lab.stage import Outcome

MS = 1_000_000
SECOND = 1_000_000_000
NODE_CLASSES = ("a", "b")


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps an instant and a place across to the canvas, lying or standing."""

    begin: int
    end: int
    length: float
    offset: float
    is_standing: bool = False

    def along(self, at: int) -> float:
        """The position of an instant in time's direction."""
        share = (at - self.begin) / max(self.end - self.begin, 1)
        return self.offset + min(max(share, 0.0), 1.0) * self.length

    def bar(self, begin: int, end: int, across: float, thick: float, least: float = 1.0) -> str:
        """Attributes of a rectangle from ``begin`` to ``end``."""
        start = self.along(begin)
        long = max(self.along(end) - start, least)
        if self.is_standing:
            return f'x="{across:.1f}" y="{start:.1f}" width="{thick:.1f}" height="{long:.1f}"'
        return f'x="{start:.1f}" y="{across:.1f}" width="{long:.1f}" height="{thick:.1f}"'

    def point(self, at: int, across: float) -> tuple[float, float]:
        """A point's x and y."""
        return (across, self.along(at)) if self.is_standing else (self.along(at), across)


def node_class(story: Story, machine: str) -> str:
    """The CSS class that colours a machine."""
    nodes = [name for name in story.machines if name not in ("witness", "client")]
    return NODE_CLASSES[nodes.index(machine) % 2] if machine in nodes else "n"


def duration(ms: float) -> str:
    """A gap's length for people: 312 ms, 5.31 s."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


# ---------------------------------------------------------------------- the whole run


def lying(story: Story) -> str:
    """The whole run, time to the right, one lane per machine."""
    names, height, top = story.machines, 44, 46
    axis = Axis(story.begin, story.end, 1090, 96)
    bottom = top + len(names) * height
    parts = [_lying_grid(axis, top, bottom)]
    for index, name in enumerate(names):
        across = top + index * height
        parts.append(f'<text class="lane" x="0" y="{across + 22}">{escape(name)}</text>')
        parts.append(f'<rect class="track" {axis.bar(story.begin, story.end, across + 6, 26)}/>')
        parts += _states(story, axis, name, across + 24, 8)
        parts += _served(story, axis, name, across + 6, 18)
    parts += _gap_bars(story, axis, bottom + 8, 16)
    parts.append(f'<text class="lane" x="0" y="{bottom + 20}">no write</text>')
    parts += _lying_marks(story, axis, top, bottom)
    body = "".join(parts)
    return (
        f'<svg class="lying" viewBox="0 0 1200 {bottom + 34}" role="img" '
        f'aria-label="Timeline of the whole run">{body}</svg>'
    )


def _lying_grid(axis: Axis, top: int, bottom: int) -> str:
    step = _step((axis.end - axis.begin) / SECOND, 12)
    lines = []
    for second in range(0, int((axis.end - axis.begin) / SECOND) + 1, step):
        x = axis.along(axis.begin + second * SECOND)
        lines.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom + 26}"/>'
        )
        lines.append(f'<text class="time" x="{x:.1f}" y="{bottom + 34}">{_clock(second)}</text>')
    return "".join(lines)


def _lying_marks(story: Story, axis: Axis, top: int, bottom: int) -> list[str]:
    parts = []
    last = -99.0
    row = 0
    for number, outcome in enumerate(story.outcomes, 1):
        x = axis.along(outcome.begin)
        row = (row + 1) % 2 if x - last < 22 else 0
        y, last = 14 + 18 * row, x
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{bottom}"/>'
            f'<circle class="mark" cx="{x:.1f}" cy="{y}" r="9"/>'
            f'<text class="number" x="{x:.1f}" y="{y + 4}">{number}</text>'
        )
    return parts


def standing(story: Story) -> str:
    """The whole run, time downwards, for narrow screens; the events' words beside it."""
    per_second = 5.2
    length = max((story.end - story.begin) / SECOND * per_second, 46.0 * len(story.outcomes))
    axis = Axis(story.begin, story.end, length, 34, is_standing=True)
    nodes = [name for name in story.machines if node_class(story, name) != "n"]
    parts = []
    for index, name in enumerate(nodes):
        across = 34 + index * 42
        parts.append(f'<text class="head" x="{across + 12}" y="24">{escape(name)}</text>')
        parts.append(f'<rect class="track" {axis.bar(story.begin, story.end, across, 24)}/>')
        parts += _served(story, axis, name, across, 24)
    across = 34 + len(nodes) * 42
    parts += _gap_bars(story, axis, across, 12)
    parts.append(_standing_labels(story, axis, across + 22))
    height = axis.offset + length + 40
    return (
        f'<svg class="standing" viewBox="0 0 360 {height:.0f}" role="img" '
        f'aria-label="Timeline of the whole run">{"".join(parts)}</svg>'
    )


def _standing_labels(story: Story, axis: Axis, x: float) -> str:
    parts = []
    below = 0.0
    for number, outcome in enumerate(story.outcomes, 1):
        at = axis.along(outcome.begin)
        y = max(at + 4, below)
        below = y + 32
        second = int((outcome.begin - story.begin) / SECOND)
        text = f"{number}. {outcome.title}"
        parts.append(
            f'<line class="mark" x1="34" x2="{x - 12:.0f}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<line class="lead" x1="{x - 12:.0f}" x2="{x - 3:.0f}" y1="{at:.1f}" '
            f'y2="{y - 4:.1f}"/>'
            f'<text class="event" x="{x:.0f}" y="{y:.1f}">{escape(text)}</text>'
            f'<text class="small" x="{x:.0f}" y="{y + 14:.1f}">{_clock(second)} · longest gap '
            f"{duration(outcome.gap_ms)}</text>"
            f'<text class="time" x="14" y="{at + 4:.1f}">{_clock(second)}</text>'
        )
    return "".join(parts)


def _served(story: Story, axis: Axis, name: str, across: float, thick: float) -> list[str]:
    tone = node_class(story, name)
    return [
        f'<rect class="serve {tone}" {axis.bar(s.begin, s.end, across, thick)}>'
        f"<title>{escape(name)} acknowledged writes for "
        f"{(s.end - s.begin) / SECOND:.1f} s</title></rect>"
        for s in story.served
        if s.machine == name
    ]


def _states(story: Story, axis: Axis, name: str, across: float, thick: float) -> list[str]:
    parts = []
    for state in (s for s in story.states if s.machine == name):
        parts.append(
            f'<rect class="state {_state_tone(state)}" '
            f"{axis.bar(state.begin, state.end, across, thick)}>"
            f"<title>{escape(name)}: {escape(state.word)}</title></rect>"
        )
        wide = axis.along(state.end) - axis.along(state.begin)
        if wide > 7.0 * len(state.word):
            x = axis.along(state.begin) + 3
            parts.append(
                f'<text class="word" x="{x:.1f}" y="{across + 17}">{escape(state.word)}</text>'
            )
    return parts


def _state_tone(state: Stretch) -> str:
    if state.word.endswith("_ALONE") or state.word in ("PINNED", "WAITING"):
        return "warn"
    return "bad" if state.word == "QUARANTINED" else "calm"


def _gap_bars(story: Story, axis: Axis, across: float, thick: float) -> list[str]:
    return [
        f'<rect class="gap" {axis.bar(begin, end, across, thick, 2.0)}>'
        f"<title>no acknowledged write for {duration((end - begin) / MS)}</title></rect>"
        for begin, end in story.gaps
    ]


# ---------------------------------------------------------------------- one event


def close_up(story: Story, index: int) -> str:
    """One event, enlarged around its longest gap: who acknowledged when, and when nobody."""
    outcome = story.outcomes[index]
    begin, end = zoom(outcome)
    axis = Axis(begin, end, 300, 46)
    nodes = [name for name in story.machines if node_class(story, name) != "n"]
    parts = []
    for row, name in enumerate(nodes):
        across = 24 + row * 22
        tone = node_class(story, name)
        parts.append(f'<text class="lane" x="0" y="{across + 12}">{escape(name)}</text>')
        parts.append(f'<rect class="track" {axis.bar(begin, end, across, 16)}/>')
        parts += [
            f'<rect class="serve {tone}" x="{axis.along(at):.1f}" y="{across}" width="1.2" '
            'height="16"/>'
            for at, server in story.ticks[index]
            if server == name
        ]
    bottom = 24 + len(nodes) * 22
    parts.append(_close_gap(axis, outcome, bottom))
    parts += _close_marks(story, axis, bottom, outcome.begin)
    return (
        f'<svg viewBox="0 0 350 {bottom + 32}" role="img" '
        f'aria-label="{escape(outcome.title)}, enlarged">{"".join(parts)}</svg>'
    )


def _close_gap(axis: Axis, outcome: Outcome, bottom: int) -> str:
    x0, x1 = axis.along(outcome.gap_begin), axis.along(outcome.gap_end)
    middle = min(max((x0 + x1) / 2, 80), 310)
    more = " and still none" if outcome.is_open else ""
    tone = "gap" if outcome.gap_ms >= GAP_MS else "short"
    return (
        f'<rect class="veil {tone}" x="{x0:.1f}" y="22" width="{max(x1 - x0, 1):.1f}" '
        f'height="{bottom - 22}"/>'
        f'<rect class="{tone}" x="{x0:.1f}" y="{bottom + 2}" width="{max(x1 - x0, 2):.1f}" '
        'height="6"/>'
        f'<text class="length {tone}" x="{middle:.1f}" y="{bottom + 23}">'
        f"{duration(outcome.gap_ms)}{more}</text>"
    )


def _close_marks(story: Story, axis: Axis, bottom: int, begin: int) -> list[str]:
    """What was done meanwhile; words only for what was done from ``begin`` on."""
    parts = []
    free_from = 0.0
    for mark in (m for m in story.marks if axis.begin <= m.at <= axis.end):
        x = axis.along(mark.at)
        tone = "mend" if mark.is_mend else "fault"
        parts.append(f'<line class="{tone}" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{bottom}"/>')
        width = 6.2 * len(mark.text)
        left = min(x, 346 - width)
        if left >= free_from and mark.at >= begin:
            parts.append(f'<text class="what" x="{left:.1f}" y="12">{escape(mark.text)}</text>')
            free_from = left + width
    return parts


def _clock(second: int) -> str:
    return f"{second // 60}:{second % 60:02d}"


def _step(seconds: float, most: int) -> int:
    return next((s for s in (5, 10, 15, 30, 60, 120, 300) if seconds / s <= most), 600)
