"""What the page looks like: colours that survive colour blindness (after Okabe and Ito), each with a marker of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How one kind of thing is drawn.

    Attributes:
        light: Colour on white.
        dark: Colour on black.
        marker: Key of ``MARKERS``.
    """

    light: str
    dark: str
    marker: str


LOOKS = {
    "agent": Look("#0072b2", "#56b4e9", "circle"),
    "uniform": Look("#c84e00", "#ff9152", "square"),
    "shallow": Look("#00825f", "#2fcf9f", "up"),
    "deep": Look("#b0528a", "#eaa4cd", "diamond"),
    "random": Look("#767676", "#a2a2a2", "cross"),
    "dense": Look("#1a1a1a", "#f2f2f2", "star"),
    "tuned": Look("#9a6a00", "#f2bd42", "down"),
    "other": Look("#6b3fa0", "#bd9cf0", "plus"),
}
_RUNS = ("agent", "uniform", "shallow", "deep", "tuned", "other", "dense", "random")

MARKERS = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "square": "M-3.6 -3.6h7.2v7.2h-7.2z",
    "up": "M0 -4.6L4.4 3.4H-4.4z",
    "down": "M0 4.6L4.4 -3.4H-4.4z",
    "diamond": "M0 -5L4.4 0L0 5L-4.4 0z",
    "cross": "M-3.4 -3.4L3.4 3.4M-3.4 3.4L3.4 -3.4",
    "plus": "M-4.4 0H4.4M0 -4.4V4.4",
    "star": "M0 -5.6L1.5 -1.9L5.4 -1.7L2.4 0.8L3.4 4.6L0 2.5L-3.4 4.6L-2.4 0.8L-5.4 -1.7L-1.5 -1.9z",
}
STROKED = ("cross", "plus")


def run_look(number: int) -> str:
    """Return the look of one of several runs."""
    return _RUNS[number % len(_RUNS)]


def shade(place: float, *, dark: bool = False) -> str:
    """Return a colour between blue (0) and orange (1), by lightness too, for families of curves in an order."""
    stops = ("#084c8d", "#2a8f9e", "#b9a233", "#c84e00") if not dark else ("#6db7ff", "#62d0c8", "#e3cf6b", "#ff9152")
    share = min(max(place, 0.0), 1.0) * (len(stops) - 1)
    first = min(int(share), len(stops) - 2)
    return _mix(stops[first], stops[first + 1], share - first)


def _mix(one: str, other: str, share: float) -> str:
    channels = [
        round((1 - share) * int(one[at : at + 2], 16) + share * int(other[at : at + 2], 16)) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def _colours(kind: str) -> str:
    return "".join(f"--{name}:{getattr(look, kind)};" for name, look in LOOKS.items())


_LIGHT = (
    "color-scheme:light;--ink:#1b1f24;--soft:#57606a;--line:#d5dae0;--paper:#ffffff;--panel:#f6f8fa;--whole:#c3cad2;"
    + _colours("light")
)
_DARK = (
    "color-scheme:dark;--ink:#e8ecf1;--soft:#9ca7b3;--line:#363d46;--paper:#12161b;--panel:#1a2027;--whole:#4a535e;"
    + _colours("dark")
)
_RULES: Sequence[str] = (
    "*{box-sizing:border-box}",
    "html{-webkit-text-size-adjust:100%}",
    "body{margin:0;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}",
    "main{max-width:1200px;margin:0 auto;padding:24px 24px 56px}",
    "h1{font-size:1.7rem;line-height:1.2;margin:.2em 0 .1em;letter-spacing:-.01em;overflow-wrap:anywhere}",
    "h2{font-size:1.2rem;margin:2.2em 0 .5em;padding-top:.7em;border-top:1px solid var(--line)}",
    "h3{font-size:1rem;margin:1.4em 0 .4em;overflow-wrap:anywhere}",
    "p{margin:.5em 0;max-width:78ch;overflow-wrap:anywhere}",
    ".kicker,.note,figcaption,caption,footer{color:var(--soft);font-size:.875rem}",
    ".lead{font-size:1.12rem}",
    ".verdict{border-left:4px solid var(--agent);background:var(--panel);padding:.6em .9em;margin:.9em 0;max-width:none}",
    ".verdict.against{border-left-color:var(--uniform)}",
    ".verdict.open{border-left-color:var(--random)}",
    ".verdict p{margin:.2em 0;max-width:none}",
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:1em 0;padding:0}",
    ".tiles div{background:var(--panel);border-radius:8px;padding:.7em .9em}",
    ".tiles dt{color:var(--soft);font-size:.8rem}",
    ".tiles dd{margin:0;font-size:1.4rem;line-height:1.35;font-weight:650;letter-spacing:-.01em}",
    ".tiles .pm{font-size:.95rem;font-weight:500;white-space:nowrap;color:var(--soft)}",
    ".tiles .small{display:block;font-size:.8rem;font-weight:400;color:var(--soft);letter-spacing:0}",
    ".scroll{overflow-x:auto;margin:.8em 0}",
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}",
    "caption{text-align:left;padding-bottom:.4em;max-width:min(78ch,calc(100vw - 30px));position:sticky;left:0}",
    "th,td{padding:.34em .8em .34em 0;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}",
    "thead th{color:var(--soft);font-weight:500;border-bottom-color:var(--soft);vertical-align:bottom}",
    "th:first-child,.text{text-align:left}",
    ".wrap td{white-space:normal;overflow-wrap:anywhere;text-align:left}",
    "tbody th{font-weight:500}",
    "tr.own th,tr.own td{font-weight:650}",
    "code,pre{font:.85rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}",
    "pre{background:var(--panel);padding:.8em 1em;border-radius:8px;white-space:pre-wrap;overflow-wrap:anywhere}",
    "code{overflow-wrap:anywhere}",
    ".pair{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:12px 36px}",
    "figure{margin:1em 0 .4em;min-width:0}",
    "figure svg.chart{display:block;width:100%;height:auto;overflow:visible}",
    "figure h3{margin:0 0 .3em}",
    "figcaption{margin-top:.3em;max-width:78ch}",
    ".wide{overflow-x:auto}.wide svg{min-width:680px}",
    ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1em 1.1em;margin:.2em 0 0;padding:0;font-size:.85rem}",
    ".legend svg{width:26px;height:12px;vertical-align:-1px;margin-right:.35em;overflow:visible}",
    "svg text{fill:var(--ink);font:13px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif}",
    "svg .tick{fill:var(--soft)}",
    "svg .grid{stroke:var(--line);stroke-width:1}",
    "svg .axis{stroke:var(--soft);stroke-width:1}",
    "svg .l{fill:none;stroke:var(--c);stroke-width:2.2;stroke-linejoin:round}",
    "svg .level{stroke:var(--c);stroke-width:1.5;stroke-dasharray:7 4}",
    "svg .dashed{stroke-dasharray:5 4}",
    "svg .m{fill:var(--c);stroke:var(--paper);stroke-width:.8}",
    "svg .s{fill:none;stroke:var(--c);stroke-width:1.8}",
    "svg .e{stroke:var(--c);stroke-width:1.6}",
    "svg .faint .m{stroke:none;fill-opacity:.42}",
    "svg .faint .s{stroke-opacity:.5;stroke-width:1.3}",
    "svg .thin .l{stroke-width:1.5;stroke-opacity:.85}",
    "svg .below{fill:none;stroke:var(--c);stroke-width:1.3}",
    "svg g:hover>.l{stroke-width:4}svg .m:hover,svg .s:hover{stroke:var(--ink);stroke-width:2}",
    "svg .before{fill:none;stroke:var(--soft);stroke-width:1}",
    "svg .decided,svg .smaller{fill:var(--agent)}svg .whole{fill:var(--whole)}",
    "svg .join{fill:none;stroke:var(--ink);stroke-width:1.1}",
    "svg .ruled{stroke:var(--uniform);stroke-width:2.4}",
    "svg .col:hover .before{stroke:var(--ink);stroke-width:2}svg .hit{fill:transparent}",
    "details{margin:.6em 0}summary{cursor:pointer;color:var(--soft);font-size:.9rem}",
    "details.run>summary{font-size:1.05rem;font-weight:600;color:var(--ink);padding:.5em 0}",
    ".switch{border:0;margin:0;padding:0;min-width:0}.switch legend{padding:0;font-weight:600;float:left;margin-right:1em}",
    ".switch label{margin-right:1em;font-size:.9rem;color:var(--soft)}",
    ".switch>.panel{display:none;clear:both}",
    ".switch>input:nth-of-type(1):checked~.panel.one,.switch>input:nth-of-type(2):checked~.panel.two{display:block}",
    ".bar{display:inline-block;width:120px;height:.75em;background:var(--line);vertical-align:middle}",
    ".bar i{display:block;height:100%;background:var(--agent)}",
    "footer{margin-top:3em}",
    "@media(max-width:760px){main{padding:14px 14px 40px}.pair{grid-template-columns:minmax(0,1fr)}h1{font-size:1.35rem}"
    ".lead{font-size:1.02rem}svg.chart text{font-size:17px}"
    ".wide svg.chart{min-width:900px}.wide svg.chart text{font-size:13px}.bar{width:70px}"
    ".tiles{grid-template-columns:1fr 1fr;gap:8px}.tiles dd{font-size:1.2rem}}",
    "@media print{details>*{display:block}main{max-width:none}h2,figure{break-inside:avoid}}",
)


def css() -> str:
    """Return the style sheet."""
    looks = "".join(f".k-{name}{{--c:var(--{name})}}" for name in LOOKS)
    schemes = (
        f":root{{{_LIGHT}}}@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
        ".shade{--c:var(--a)}@media screen and (prefers-color-scheme:dark){.shade{--c:var(--b)}}"
    )
    return schemes + looks + "".join(_RULES)


def svg_css() -> str:
    """Return what of the style sheet a chart needs that stands alone, in the light colours; nothing follows the pointer."""
    rules = re.findall(r"(svg [^{]*)(\{[^}]*\})", "".join(rule for rule in _RULES if rule.startswith("svg ")))
    found = [".paper{fill:var(--paper)}", ".heading{font-weight:600}"]
    for selectors, body in rules:
        places = [selector.removeprefix("svg ") for selector in selectors.split(",") if ":hover" not in selector]
        if "var(--c)" not in body:
            found += [",".join(places) + body] if places else []
            continue
        for name in (*LOOKS, "shade"):
            own = "currentColor" if name == "shade" else f"var(--{name})"
            found.append(",".join(_within(name, place) for place in places) + body.replace("var(--c)", own))
    return "".join(found)


def _within(look: str, place: str) -> str:
    """Return a selector for what is in a group of a look, which may itself be the first that is named."""
    kind = ".shade" if look == "shade" else f".k-{look}"
    first, _, rest = place.partition(" ")
    return f"{first}{kind} {rest}" if rest else f"{kind} {first}"


def without_variables(svg: str) -> str:
    """Return a drawing with every variable replaced by its light colour, as not every viewer knows them."""
    values = dict(pair.split(":", 1) for pair in _LIGHT.rstrip(";").split(";"))
    plain = re.sub(r"--a:(#\w+);--b:#\w+", r"color:\1", svg)
    return re.sub(r"var\((--[\w-]+)\)", lambda found: values[found[1]], plain)
