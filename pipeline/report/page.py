"""One HTML page that needs nothing but itself: text, tables and figures, all data escaped."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pipeline.report.figures import FONT, GRID, INK, TRAINING, Figure

_STYLE = f"""
*{{box-sizing:border-box}}
body{{font:15px/1.55 {FONT};color:{INK};background:#fff;margin:0}}
main,header>div,nav>div{{max-width:1480px;margin:0 auto;padding:0 28px}}
header{{background:{INK};color:#fff;padding:26px 0 22px}}
header h1{{font-size:27px;font-weight:650;margin:0;letter-spacing:-.01em}}
header p{{margin:4px 0 0;color:#c9ced6;max-width:80ch}}
nav{{border-bottom:1px solid {GRID};background:#fff;position:sticky;top:0;z-index:5;font-size:14px}}
nav>div{{display:flex;flex-wrap:wrap;gap:2px 20px;padding-top:9px;padding-bottom:9px}}
a{{color:{TRAINING};text-decoration:none}} a:hover{{text-decoration:underline}}
section{{padding:30px 0 6px;scroll-margin-top:34px}}
h2{{font-size:20px;margin:0 0 6px;font-weight:650}} h3{{font-size:15px;margin:20px 0 4px;font-weight:600}}
h4{{font-size:14px;margin:12px 0 0;font-weight:600}}
p{{margin:6px 0 12px;max-width:92ch}}
.missing{{color:#6b7280;font-style:italic}}
.grid{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(400px,100%),1fr));gap:12px 22px}}
.figure,.block{{min-width:0}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px 32px;margin:10px 0 18px}}
.tiles b{{display:block;font-size:23px;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}}
.tiles span{{font-size:13px;color:#5b6370}}
.scroll{{overflow:auto;max-height:680px;border:1px solid {GRID};border-radius:4px;margin:8px 0 14px}}
.scroll:has(table.even){{max-height:none}} table.even{{table-layout:fixed;width:100%;min-width:900px}}
table.even td{{white-space:normal;vertical-align:top}} table.even td:first-child{{font-weight:600}}
table.even th:first-child{{width:14%}}
table{{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;min-width:100%}}
th{{text-align:left;font-weight:600;background:#f5f6f8;position:sticky;top:0;vertical-align:bottom;z-index:1}}
small{{color:#5b6370}} th small{{display:block;font-weight:400}}
th,td{{padding:6px 8px;border-bottom:1px solid {GRID}}} td{{white-space:nowrap}}
td.wrap{{white-space:normal;min-width:220px;width:60%}}
td.n,th.n{{text-align:right}}
table.sortable th{{cursor:pointer}} table.sortable th:hover{{background:#e9ecf0}}
th[aria-sort=ascending]::after{{content:" \\2191"}} th[aria-sort=descending]::after{{content:" \\2193"}}
.bar{{background:{TRAINING};height:15px;border-radius:2px;min-width:2px}}
td.track{{width:26%;min-width:140px}}
pre,code{{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}}
pre{{background:#f5f6f8;border:1px solid {GRID};border-radius:4px;padding:9px 12px;overflow:auto;margin:6px 0 12px}}
details{{margin:6px 0 14px}} summary{{cursor:pointer;color:{TRAINING};font-size:14px}}
sub{{font-size:.78em;line-height:0}}
details.card{{border:1px solid {GRID};border-radius:4px;margin:8px 0;padding:9px 12px}}
details.card summary{{font-size:15px}} details.card .grid{{align-items:start;margin-top:8px}}
.facts{{columns:2 420px;column-gap:32px;font-size:13.5px;margin:12px 0 4px}}
.facts div{{display:flex;gap:14px;break-inside:avoid;padding:1px 0}} .facts dt{{color:#5b6370;flex:0 0 165px}}
.facts dd{{margin:0;min-width:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}}
footer{{padding:22px 0 40px;color:#5b6370;font-size:13px}}
@media print{{nav{{position:static}} .scroll{{max-height:none}}}}
"""

_SCRIPT = """
// A trace with a radius becomes balls: meshes of RINGS by SEGMENTS points about each of its markers.
const RINGS = 14, SEGMENTS = 20;
const balls = ({x, y, z, text, meta, marker, name}) => {
  const ball = {type: 'mesh3d', name, color: marker.color, hoverinfo: 'text', showlegend: true, flatshading: false};
  const at = {x: [], y: [], z: [], i: [], j: [], k: [], text: []};
  x.forEach((_, n) => {
    const first = at.x.length;
    for (let ring = 0; ring <= RINGS; ring++) for (let segment = 0; segment < SEGMENTS; segment++) {
      const [theta, phi] = [Math.PI * ring / RINGS, 2 * Math.PI * segment / SEGMENTS];
      at.x.push(x[n] + meta.radius * Math.sin(theta) * Math.cos(phi));
      at.y.push(y[n] + meta.radius * Math.sin(theta) * Math.sin(phi));
      at.z.push(z[n] + meta.radius * Math.cos(theta));
      at.text.push(text[n]);
      if (ring === RINGS) continue;
      const [here, next] = [segment, (segment + 1) % SEGMENTS].map(s => first + ring * SEGMENTS + s);
      at.i.push(here, here + SEGMENTS); at.j.push(next, next); at.k.push(here + SEGMENTS, next + SEGMENTS);
    }
  });
  const lighting = {ambient: 0.5, diffuse: 0.9, specular: 0.25, roughness: 0.4, fresnel: 0.1};
  return {...ball, ...at, lighting, lightposition: {x: 1e4, y: 1e4, z: 1e4}};
};
const place = figure => figure.querySelector(':scope > div');
const draw = figure => {
  const {data, layout} = JSON.parse(figure.querySelector('script').textContent);
  const flat = [['toImage', 'zoom2d', 'pan2d', 'resetScale2d']], solid = [['toImage', 'resetCameraDefault3d']];
  Plotly.newPlot(place(figure), data.map(trace => trace.meta?.radius ? balls(trace) : trace), layout, {
    responsive: true, displaylogo: false, plotlyServerURL: '', modeBarButtons: layout.scene ? solid : flat,
  });
};
const within = box => [...box.querySelectorAll('.figure')];
within(document).forEach(figure => figure.closest('details') || draw(figure));
// What can be opened is drawn when it is: browsers hold few three-dimensional scenes at a time.
document.querySelectorAll('details').forEach(box => box.addEventListener('toggle', () =>
  within(box).forEach(figure => box.open ? draw(figure) : Plotly.purge(place(figure)))
));
document.querySelectorAll('table.sortable').forEach(table => {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => row.cells[i].dataset.key;
  const sort = (head, i) => {
    const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', sign === 1 ? 'ascending' : 'descending');
    body.append(...[...body.rows].sort((a, b) => {
      const [p, q] = [key(a, i), key(b, i)];
      if (p === '' || q === '') return (p === '') - (q === '');
      return sign * (isNaN(p) || isNaN(q) ? p.localeCompare(q) : p - q);
    }));
  };
  heads.forEach((head, i) => {
    head.tabIndex = 0;
    head.addEventListener('click', () => sort(head, i));
    head.addEventListener('keydown', event => event.key === 'Enter' && sort(head, i));
  });
});
"""


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Args:
        html: Content, escaped by whoever made it.
        key: What the column sorts by; empty sorts last.
        kind: CSS class, ``n`` for numbers.
    """

    html: str
    key: str | float = ""
    kind: str = ""


def number(value: float | None, form: str = ",") -> Cell:
    """A number in a cell, right-aligned; a dash where there is none."""
    if value is None:
        return Cell("–", "", "n")
    return Cell(rounded(value, form), value, "n")


def rounded(value: float | None, form: str) -> str:
    """A number with a true minus sign, none before a zero; a dash where there is no number."""
    if value is None:
        return "–"
    said = format(value, form)
    return (said if said.strip("-0.,") else said.removeprefix("-")).replace("-", "−")


def text(value: str, kind: str = "") -> Cell:
    """Text in a cell, escaped."""
    return Cell(escape(value), value, kind)


def formula(value: str) -> str:
    """A formula as HTML, counts as subscripts."""
    return re.sub(r"(?<=[A-Za-z)\]])(\d+)", r"<sub>\1</sub>", escape(value))


def share(value: float | None) -> str:
    """A share as text in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def paragraph(*sentences: str) -> str:
    """Sentences of HTML as one paragraph."""
    return f"<p>{' '.join(sentences)}</p>"


def missing(sentence: str) -> str:
    """A sentence in the place of a figure that cannot be drawn."""
    return f'<p class="missing">{escape(sentence)}</p>'


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """A row of large figures, each with what it says."""
    shown = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in values)
    return f'<div class="tiles">{shown}</div>'


def table(
    heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[Cell]], *, sortable: bool = False, even: bool = False
) -> str:
    """A table.

    Args:
        heads: Name and unit (or empty) of each column; the kind of the first row's cell aligns the head.
        rows: Cells.
        sortable: Whether a click on a head sorts.
        even: Columns of sentences, of one width and shown whole.
    """
    kinds = [cell.kind for cell in rows[0]] if rows else [""] * len(heads)
    head = "".join(
        f"<th{_class(kind)}>{escape(name)}{f'<small>{escape(unit)}</small>' if unit else ''}</th>"
        for (name, unit), kind in zip(heads, kinds, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(f'<td{_class(cell.kind)} data-key="{escape(str(cell.key))}">{cell.html}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    kind = _class(" ".join(["sortable"] * sortable + ["even"] * even))
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def details(summary: str, html: str) -> str:
    """Content that opens on a click; its figures are drawn then."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def card(summary: str, html: str) -> str:
    """As :func:`details`, framed, with a summary of HTML."""
    return f'<details class="card"><summary>{summary}</summary>{html}</details>'


def facts(known: Sequence[tuple[str, str]]) -> str:
    """What is known of one thing, line by line: name, and HTML."""
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{html}</dd></div>" for name, html in known)
    return f'<dl class="facts">{lines}</dl>'


def figure(drawn: Figure) -> str:
    """One figure."""
    return f'<div class="figure">{_data(drawn)}</div>'


def block(title: str, html: str) -> str:
    """HTML under a title, to stand beside figures."""
    return f'<div class="block"><h4>{escape(title)}</h4>{html}</div>'


def beside(*blocks: str) -> str:
    """Figures and blocks beside each other as far as the width allows."""
    return f'<div class="grid">{"".join(blocks)}</div>'


def figures(*drawn: Figure) -> str:
    """Figures beside each other as far as the width allows."""
    return figure(drawn[0]) if len(drawn) == 1 else beside(*map(figure, drawn))


def render(title: str, subtitle: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Args:
        title, subtitle: Text of the header.
        sections: Heading and HTML of each.
    """
    from plotly.offline import get_plotlyjs

    names = [(f"section-{index}", name, html) for index, (name, html) in enumerate(sections, start=1)]
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name, _ in names)
    body = "".join(
        f'<section id="{anchor}"><h2>{escape(name)}</h2>\n{html}</section>\n' for anchor, name, html in names
    )
    # The policy makes the browser refuse every request: the page cannot depend on a network.
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><div><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></div></header>
<nav><div>{links}</div></nav>
<main>
{body}</main>
<script>{get_plotlyjs()}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _data(drawn: Figure) -> str:
    """A figure's title, data and place; in the data every ``<`` is written as its escape, so no text can end it."""
    told = {"data": drawn["data"], "layout": drawn["layout"]}
    text = json.dumps(told, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    title = f"<h4>{escape(drawn['title'])}</h4>" if drawn["title"] else ""
    return f'{title}<script type="application/json">{text}</script><div></div>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
