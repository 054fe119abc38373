"""``demo-report.html``: one file, no request leaves it, for desk and phone. Pure."""

from html import escape

from openmse.lab import report_svg
from openmse.lab.report_story import BY_DESIGN, Story
from openmse.lab.report_svg import duration, node_class
from openmse.lab.stage import Outcome

STYLE = """
:root{color-scheme:light dark;--bg:#f7f7f4;--card:#fff;--ink:#1d2126;--soft:#5c6570;--line:#dcdfe3;
--track:#edeff1;--a:#2563c9;--b:#c2660a;--gap:#cf2e2e;--veil:#cf2e2e1c;--good:#1b7a43;--calm:#b9c4d0;
--warn:#d9a514}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1d2125;--ink:#e8eaed;--soft:#9aa4ae;
--line:#343a41;--track:#2a2f35;--a:#6ea3f5;--b:#eb9a46;--gap:#f26d6d;--veil:#f26d6d26;--good:#58c486;
--calm:#55606c;--warn:#e0b84a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:clamp(1.35rem,3.6vw,2rem);line-height:1.2;margin:0 0 6px;text-wrap:balance}
h2{font-size:1.1rem;margin:36px 0 10px}
p{margin:4px 0;max-width:75ch}.soft{color:var(--soft)}
.good{color:var(--good)}.bad{color:var(--gap)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:20px 0}
.fact,.card,.panel{background:var(--card);border:1px solid var(--line);border-radius:10px}
.fact{padding:12px 14px}.fact b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums}
.fact>span{color:var(--soft);font-size:.85rem}
.panel{padding:14px 16px;overflow:hidden}
svg{display:block;width:100%;height:auto}svg.standing{display:none}
svg text{fill:var(--ink);font-size:12px;font-family:inherit}
svg .lane,svg .head{font-weight:600}svg .head,svg .number,svg .time,svg .length{text-anchor:middle}
svg .time,svg .small,svg .word{fill:var(--soft);font-size:10.5px}svg .word{font-size:9px}
svg .number{fill:var(--card);font-weight:700;font-size:11px}
svg .length{font-weight:700;font-size:14px;fill:var(--gap)}svg .length.short{fill:var(--soft)}
svg .event{font-weight:600;font-size:12.5px}svg .what{font-size:11px;fill:var(--soft)}
.track{fill:var(--track)}.serve.a{fill:var(--a)}.serve.b{fill:var(--b)}.serve.n{fill:var(--soft)}
.gap{fill:var(--gap)}.short{fill:var(--soft)}.veil.gap{fill:var(--veil)}.veil.short{fill:none}
.grid{stroke:var(--line)}
line.mark,line.lead{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 3}
circle.mark{fill:var(--ink)}
line.fault{stroke:var(--gap);stroke-width:1.5}line.mend{stroke:var(--good);stroke-width:1.5}
.state.calm{fill:var(--calm)}.state.warn{fill:var(--warn)}.state.bad{fill:var(--gap)}
.key{display:flex;flex-wrap:wrap;gap:6px 18px;font-size:.85rem;color:var(--soft);margin:10px 0 0}
.key i{display:inline-block;width:14px;height:10px;border-radius:2px;margin-right:6px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));gap:12px}
.card{padding:12px 14px}.card h3{margin:0;font-size:1rem}.card p{font-size:.87rem}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{font-size:.8rem;color:var(--soft);font-weight:600}td.num,th.num{text-align:right}
tr:last-child td{border-bottom:0}
.who{white-space:nowrap}.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}
.dot.a{background:var(--a)}.dot.b{background:var(--b)}.dot.n{background:var(--soft)}
@media(max-width:640px){main{padding:20px 12px 40px}svg.lying,.only-wide{display:none}
svg.standing{display:block}thead{display:none}
tr{display:grid;grid-template-columns:1fr auto;padding:9px 0;border-bottom:1px solid var(--line)}
tr:last-child{border-bottom:0}td,td.num{border:0;padding:1px 4px;text-align:left}
td:first-child{font-weight:600}td:nth-child(2){text-align:right;font-weight:600}
td:nth-child(n+3){grid-column:1/-1;font-size:.87rem;color:var(--soft)}
td[data-l]::before{content:attr(data-l) " "}}
"""


def page(story: Story) -> str:
    """The whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(story.title)}</title><style>{STYLE}</style></head><body><main>"
        f"{_head(story)}{_facts(story)}{_timeline(story)}{_cards(story)}{_table(story)}"
        f"{_foot(story)}</main></body></html>"
    )


def _head(story: Story) -> str:
    totals = story.totals
    if story.is_good:
        line = (
            f'<h1><span class="good">Nothing acknowledged was lost, and never did two serve.</span>'
            f"</h1><p>{len(story.outcomes)} times something was done to a pair of machines under "
            f"load. Of {totals.acknowledged:,} acknowledged writes, every one is in the database "
            "that serves now.</p>"
        )
    else:
        sentences = "".join(f"<li>{escape(text)}</li>" for text in totals.violations)
        line = f'<h1><span class="bad">This run shows a fault.</span></h1><ul>{sentences}</ul>'
    return (
        f'{line}<p class="soft">A pair with a witness, machines made of namespaces on one '
        "computer; a client writes a row every 5 ms through the virtual IP, beside PostgreSQL's "
        f"pgbench. Failover wait {story.failover_wait_s:g} s.</p>"
    )


def _facts(story: Story) -> str:
    totals = story.totals
    facts = [
        (f"{totals.acknowledged:,}", "acknowledged writes"),
        (_alarming(totals.lost), "of them lost"),
        (_alarming(totals.double_presences), "times two served"),
        *_longest(story),
        (f"{len(story.outcomes)}", "events"),
    ]
    if totals.pgbench_transactions is not None:
        facts.append((f"{totals.pgbench_transactions:,}", "pgbench transactions"))
    cells = "".join(f'<div class="fact"><b>{v}</b><span>{t}</span></div>' for v, t in facts)
    return f'<div class="facts">{cells}</div>'


def _longest(story: Story) -> list[tuple[str, str]]:
    """The longest time without a write; one that has to be is told apart from the others."""
    found = []
    for words, is_wanted in (("", False), (", all apart: by design", True)):
        gaps = [o.gap_ms for o in story.outcomes if (o.event in BY_DESIGN) is is_wanted]
        if gaps:
            found.append((duration(max(gaps)), f"longest time without a write{words}"))
    return found


def _alarming(count: int) -> str:
    return f'<span class="bad">{count}</span>' if count else "0"


def _timeline(story: Story) -> str:
    nodes = [name for name in story.machines if node_class(story, name) != "n"]
    keys = [(f"var(--{node_class(story, n)})", f"{escape(n)} acknowledges writes") for n in nodes]
    keys.append(("var(--gap)", "no acknowledged write"))
    wide = [
        ("var(--calm)", "a state of the machine"),
        ("var(--warn)", "a state without protection"),
    ]
    key = "".join(f'<span><i style="background:{tone}"></i>{text}</span>' for tone, text in keys)
    key += "".join(
        f'<span class="only-wide"><i style="background:{tone}"></i>{text}</span>'
        for tone, text in wide
    )
    return (
        '<h2>Who served, and when nobody did</h2><div class="panel">'
        f'{report_svg.lying(story)}{report_svg.standing(story)}<div class="key">{key}</div></div>'
    )


def _cards(story: Story) -> str:
    cards = []
    for index, outcome in enumerate(story.outcomes):
        cards.append(
            f'<div class="card"><h3>{index + 1}. {escape(outcome.title)}</h3>'
            f"{report_svg.close_up(story, index)}"
            f'<p class="soft">{_sentence(story, index)}</p></div>'
        )
    return (
        "<h2>Each event, enlarged around its longest gap</h2>"
        '<p class="soft">Every stroke is an acknowledged write; the red bar is the time without '
        f'one.</p><div class="cards">{"".join(cards)}</div>'
    )


def _sentence(story: Story, index: int) -> str:
    outcome = story.outcomes[index]
    parts = [f"{outcome.acknowledged:,} writes acknowledged, {story.lost_in[index]} lost"]
    parts.append(_who(story, outcome))
    if outcome.sync_after_s is not None:
        parts.append(f"in SYNC again after {outcome.sync_after_s:.1f} s")
    if outcome.event in BY_DESIGN:
        parts.append(escape(BY_DESIGN[outcome.event]))
    return " · ".join(parts)


def _who(story: Story, outcome: Outcome) -> str:
    names = [outcome.served_before]
    if outcome.served_after != outcome.served_before:
        names.append(outcome.served_after)
    shown = [
        f'<span class="who"><i class="dot {node_class(story, name)}"></i>{escape(name)}</span>'
        for name in names
        if name
    ]
    return " → ".join(shown) or "nobody"


def _table(story: Story) -> str:
    rows = []
    for index, outcome in enumerate(story.outcomes):
        why = BY_DESIGN.get(outcome.event, "")
        note = f'<br><span class="soft">{escape(why)}</span>' if why else ""
        rows.append(
            f"<tr><td>{index + 1}. {escape(outcome.title)}{note}</td>"
            f'<td class="num">{duration(outcome.gap_ms)}</td>'
            f'<td class="num" data-l="acknowledged:">{outcome.acknowledged:,}</td>'
            f'<td class="num" data-l="lost:">{story.lost_in[index]}</td>'
            f'<td data-l="served:">{_who(story, outcome)}</td></tr>'
        )
    return (
        '<h2>All events</h2><div class="panel"><table><thead><tr><th>event</th>'
        '<th class="num">outage</th><th class="num">acknowledged</th><th class="num">lost</th>'
        f"<th>who served</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _foot(story: Story) -> str:
    totals = story.totals
    connect = (
        f" One undisturbed connection (TCP, TLS, authentication) costs this client "
        f"{totals.connect_ms:.0f} ms, which is part of every outage with a new connection."
        if totals.connect_ms is not None
        else ""
    )
    return (
        "<h2>How this was measured</h2>"
        '<p class="soft">Acknowledged: COMMIT returned, without a warning. An outage is the '
        "longest time between two acknowledged writes around an event. The writer gives an attempt "
        f"up after 100 ms and connects anew; {totals.unknown:,} writes were given up, "
        f"{totals.unknown_found:,} of them are there, which is allowed.{connect} Reads through the "
        f"virtual IP showed {totals.rows_read:,} rows; {totals.vanished} of them are gone. "
        f"{totals.signs:,} signs of presence were collected by asking each machine on its own "
        "cable every 20 ms.</p>"
        f'<p class="soft">{escape(story.made_at)} · {escape(story.host)} · code '
        f"{escape(story.code)}</p>"
    )
