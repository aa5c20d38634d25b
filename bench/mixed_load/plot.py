"""The figures of run.py as an SVG, on Python's standard library: latency by percentile, bulk rate and latency by time."""

import math
from html import escape

WIDTH, HEIGHT = 1080, 460
COLOURS = {"alone": "#7f8c9b", "same": "#1f77b4", "other": "#2ca02c", "grpc": "#9467bd", "bulk": "#d9822b"}
NAMES = {"same": "HTTP, bulk's own model", "other": "HTTP, another model", "grpc": "gRPC, bulk's own model"}
PERCENTILES = (("p50", "p50_ms"), ("p90", "p90_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"), ("max", "max_ms"))


class Picture:
    def __init__(self):
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
                      'font-family="sans-serif" font-size="12">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']

    def line(self, points, colour, width=2.0, dash=""):
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')

    def text(self, x, y, what, anchor="start", size=12, colour="#222222"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(what)}</text>')

    def box(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def finish(self):
        return "\n".join([*self.parts, "</svg>"]) + "\n"


def decades(picture, left, right, bottom, top, low, high):
    """A logarithmic axis of milliseconds; -> y of a value."""
    def y(ms):
        at = (math.log10(max(ms, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return bottom - at * (bottom - top)

    value = low
    while value <= high * 1.001:
        picture.line([(left, y(value)), (right, y(value))], "#dddddd", 1)
        picture.text(left - 6, y(value) + 4, f"{value:g}", "end", 11)
        value *= 10
    return y


def percentiles(picture, figures, last):
    left, right, top, bottom = 60, 470, 96, 380
    shown = [r["interactive"] for r in last["alone"].values()] + [r["interactive"] for r in last["mixed"].values()]
    values = [r[key] for r in shown for _, key in PERCENTILES if r[key] > 0]
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(max(values), figures["target_ms"] * 1.01)))
    y = decades(picture, left, right, bottom, top, low, high)
    xs = [left + 25 + i * (right - left - 50) / (len(PERCENTILES) - 1) for i in range(len(PERCENTILES))]
    for x, (name, _) in zip(xs, PERCENTILES):
        picture.text(x, bottom + 18, name, "middle")
    picture.text(left, top - 14, "latency of interactive requests, ms: dashed alone, solid with bulk", size=12)
    target = figures["target_ms"]
    picture.line([(left, y(target)), (right, y(target))], "#c0392b", 1.2)
    picture.text(right - 2, y(target) - 5, "target of the class", "end", 11, "#c0392b")
    for cell in last["mixed"]:
        for of, dash in ((last["alone"], "4 4"), (last["mixed"], "")):
            points = [(x, y(of[cell]["interactive"][key])) for x, (_, key) in zip(xs, PERCENTILES)]
            picture.line(points, COLOURS[cell], 2, dash)
            for point in points:
                picture.dot(*point, COLOURS[cell])
    for i, cell in enumerate(last["mixed"]):
        picture.line([(left + 10 + i * 138, bottom + 38), (left + 30 + i * 138, bottom + 38)], COLOURS[cell], 3)
        picture.text(left + 34 + i * 138, bottom + 42, NAMES[cell], size=10)


def by_time(picture, cell, run, figures):
    left, right = 560, 1000
    end = max(point[0] for point in run["series"])
    x = lambda s: left + s / end * (right - left)  # noqa: E731
    begun, ended = run["interactive_from_s"], run["interactive_to_s"]
    picture.box(x(begun), 96, x(ended) - x(begun), 284, "#eef4fa")
    picture.text((x(begun) + x(ended)) / 2, 110, "interactive requests beside it", "middle", 11)
    top, bottom = 116, 230
    most = max(point[1] for point in run["series"]) * 1.1 or 1
    rate = lambda v: bottom - v / most * (bottom - top)  # noqa: E731
    step = 10 ** math.floor(math.log10(most))
    step = step if most / step >= 3 else step / 2 if most / step >= 1.5 else step / 4
    value = 0
    while value <= most:
        picture.line([(left, rate(value)), (right, rate(value))], "#dddddd", 1)
        picture.text(left - 6, rate(value) + 4, f"{value / 1000:g}k", "end", 11)
        value += step
    share = run["interactive_share"]
    fair = run["bulk_alone"] * (1 - share)
    picture.line([(x(begun), rate(fair)), (x(ended), rate(fair))], "#555555", 1.2, "3 3")
    picture.text(x(ended) + 4, rate(fair) + 4, "what is left", size=10, colour="#555555")
    picture.line([(x(s), rate(v)) for s, v in run["series"]], COLOURS["bulk"], 2)
    picture.text(left, 82, f"bulk records/s over Kafka ({NAMES[cell]})", size=12)
    top, bottom = 260, 380
    intervals = [i for i in run["interactive"].get("intervals", []) if i["predicted"]]
    values = [i[k] for i in intervals for k in ("p50_ms", "p99_ms")]
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(max(values), figures["target_ms"] * 1.01)))
    y = decades(picture, left, right, bottom, top, low, high)
    picture.text(left, top - 8, "latency of interactive requests by time, ms: p50 and p99", size=12)
    picture.line([(left, y(figures["target_ms"])), (right, y(figures["target_ms"]))], "#c0392b", 1.2)
    for key, dash in (("p50_ms", "4 4"), ("p99_ms", "")):
        picture.line([(x(begun + i["from_s"]), y(i[key])) for i in intervals], COLOURS[cell], 2, dash)
    for s in range(0, int(end) + 1, 2):
        picture.text(x(s), bottom + 18, f"{s} s", "middle", 11)


def mixed_load(figures):
    """-> the text of an SVG."""
    picture, last = Picture(), figures["rounds"][-1]
    picture.text(20, 30, "Interactive requests beside bulk on one node", size=17)
    picture.text(20, 52, f"interactive load {100 * figures['share']:.0f} % of what the node does of it alone; Kafka, the node and both "
                 f"generators on {figures['cores']} cores ({figures['processor']})", size=12, colour="#555555")
    percentiles(picture, figures, last)
    cell = "same" if "same" in last["mixed"] else next(iter(last["mixed"]))
    by_time(picture, cell, last["mixed"][cell], figures)
    picture.text(20, HEIGHT - 12, "bench/mixed_load/run.py --plot docs/images/mixed_load.svg", size=11, colour="#555555")
    return picture.finish()
