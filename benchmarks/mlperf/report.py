#!/usr/bin/env python3
"""Turn results of mlperf-checkpoint into report.md and report.html: report.py [--output DIRECTORY] RESULTS ...

RESULTS are directories with summary.json and ranks.json. Several of them, as of other ways or machines, stand side by
side. The HTML file is self-contained: its plots are SVG inside it, it loads nothing.
"""
import argparse
import html
import json
import os
import sys

INK, SOFT, GRID = "#1c2733", "#5b6773", "#dfe4e8"
COLOURS = {"save": "#1f6feb", "load own": "#2da44e", "load replica": "#bf8700", "load blob": "#8250df"}
WIDTH, LEFT, ROW = 860, 250, 22
NOTICE = "MLPerf-Storage-shaped, unofficial: not a submission, not reviewed by MLCommons"


class Run:
    """One directory of results."""

    def __init__(self, directory):
        self.directory = directory
        with open(os.path.join(directory, "summary.json"), encoding="utf-8") as file:
            self.summary = json.load(file)
        with open(os.path.join(directory, "ranks.json"), encoding="utf-8") as file:
            self.times = json.load(file)
        self.beyond = self.summary["unofficial"]

    def title(self):
        subset = ", subset of 8" if self.beyond["subset"] else ""
        return f"{self.beyond['model']}{subset}, scale 1/{self.beyond['scale']}, way {self.beyond['way']}"

    def machine(self):
        machine, summary = self.beyond["machine"], self.summary
        return (f"{summary['num_accelerators']} ranks on {machine['nodes']} nodes of {machine['hosts']} hosts "
                f"({machine['cpu']}, {summary['host_cpu_count'][0]} CPUs, {summary['host_memory_GB'][0]:.0f} GiB, Linux "
                f"{machine['kernel']}, {machine['mpi']}; load {machine['load_1min']:.1f})")

    def rows(self):
        """(what, mark, rank 0, slowest rank): everything that was timed."""
        groups = [("save", self.beyond["save"])]
        groups += [(f"load {source}", marks) for source, marks in self.beyond["load"].items()]
        return [(what, mark, both["rank_0"], both["slowest_rank"]) for what, marks in groups
                for mark, both in marks.items()]

    def readable_elsewhere(self):
        """MLPerf Storage v3.0 adds to a read the time until another host can read what was saved."""
        save = self.beyond["save"]
        loaded = self.beyond["load"].get("own", {}).get("loaded")
        if self.beyond["way"] != "dcache" or not loaded or "replicated" not in save:
            return None
        later = save["replicated"]["rank_0"]["seconds_mean"] - save["staged"]["rank_0"]["seconds_mean"]
        seconds = loaded["rank_0"]["seconds_mean"] + later
        return later, seconds, self.summary["metric"]["checkpoint_size_GB"] / seconds

    def operations(self, mark_of):
        """(what, number, slowest rank's seconds, all ranks' seconds) of each operation, by its own mark."""
        for operation in self.times["operations"]:
            what = "save" if operation["kind"] == "save" else f"load {operation['source']}"
            yield what, operation["number"], operation["seconds"][mark_of[operation["kind"]]]


# --- tables, for both ------------------------------------------------------------------------------------------------


def tables_of(run):
    """[(heading, header, rows)]"""
    metric = run.summary["metric"]
    official = [[key, f"{value:.6g}"] for key, value in sorted(metric.items())]
    measured = [[what, mark, str(first["count"]), f"{first['GiB_per_second_mean']:.3f}",
                 f"{slowest['GiB_per_second_mean']:.3f}", f"{first['seconds_mean']:.4f}",
                 f"{slowest['seconds_mean']:.4f}", f"{first['seconds_stdev']:.4f}"]
                for what, mark, first, slowest in run.rows()]
    traffic = [[phase, host["host"], name, f"{counter['sent']:,}", f"{counter['received']:,}"]
               for phase, hosts in run.beyond["bytes_over_interfaces"].items() for host in hosts
               for name, counter in sorted(host["interfaces"].items()) if counter["sent"] or counter["received"]]
    return [
        ("MLPerf Storage's metrics (rank 0; GB are GiB)", ["metric", "value"], official),
        ("Everything timed: GiB/s and seconds, of rank 0 and of the slowest rank",
         ["operation", "until", "count", "GiB/s", "GiB/s slowest", "s", "s slowest", "s stdev"], measured),
        ("Bytes over the interfaces of each host, other programs' included", ["phase", "host", "interface", "sent",
                                                                            "received"], traffic),
    ]


def notes_of(run):
    notes = [run.machine(), f"From {run.summary['start']} to {run.summary['end']} UTC.", f"Caches: {run.beyond['caches']}.",
             f"Data {'compressible' if run.beyond['compressible'] else 'incompressible'}, pauses of "
             f"{run.beyond['pause_seconds']:g} s."]
    if run.beyond["scale"] != 1:
        notes.append(f"SCALED: every file has 1/{run.beyond['scale']} of its bytes; rates are not those of full size.")
    elsewhere = run.readable_elsewhere()
    if elsewhere:
        notes.append(f"With the time until another host can read ({elsewhere[0]:.4f} s after STAGED), as the rules of "
                     f"v3.0 count a read: {elsewhere[1]:.4f} s, {elsewhere[2]:.3f} GiB/s.")
    resident = [o["resident"] for o in run.times["operations"] if o["resident"] is not None]
    if resident:
        notes.append(f"Still in the page cache before reads: at most {100 * max(resident):.1f}% of the bytes.")
    return notes


def markdown_of(runs):
    out = ["# Checkpoints", "", f"**{NOTICE}.**", ""]
    for run in runs:
        out += [f"## {run.title()}", ""] + [f"- {note}" for note in notes_of(run)] + [""]
        for heading, header, rows in tables_of(run):
            out += [f"### {heading}", "", "| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
            out += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(out)


# --- plots -----------------------------------------------------------------------------------------------------------


def text(x, y, words, anchor="start", size=12, colour=INK):
    return (f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{colour}'>"
            f"{html.escape(words)}</text>")


def svg(height, parts):
    return (f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0f}' width='{WIDTH}' "
            f"height='{height:.0f}' font-family='system-ui, sans-serif'>" + "".join(parts) + "</svg>")


def colour_of(what):
    return COLOURS.get(what, SOFT)


def bars(runs):
    """Rates of everything timed: rank 0's as an outline, the slowest rank's filled."""
    rows = [(run, *row) for run in runs for row in run.rows()]
    most = max(first["GiB_per_second_mean"] for _, _, _, first, _ in rows) or 1
    parts, scale = [], (WIDTH - LEFT - 90) / most
    for index, (run, what, mark, first, slowest) in enumerate(rows):
        y = 10 + index * ROW
        name = f"{run.beyond['way']}: {what}, {mark}" if len(runs) > 1 else f"{what}, {mark}"
        rate, slow = first["GiB_per_second_mean"], slowest["GiB_per_second_mean"]
        parts.append(text(LEFT - 10, y + 12, name, "end"))
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{slow * scale:.1f}' height='15' fill='{colour_of(what)}'/>")
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{rate * scale:.1f}' height='15' fill='none' "
                     f"stroke='{colour_of(what)}'/>")
        parts.append(text(LEFT + rate * scale + 6, y + 12, f"{rate:.3g} ({slow:.3g})", colour=SOFT))
    return svg(20 + len(rows) * ROW, parts)


def dots(run):
    """The seconds of each operation: a line from the fastest to the slowest rank, and a dot for rank 0."""
    marks = {"save": run.times["save_mark"], "load": run.times["load_mark"]}
    operations = [(what, number, seconds) for what, number, seconds in run.operations(marks) if None not in seconds]
    most = max(max(seconds) for _, _, seconds in operations) or 1
    height, bottom = 220, 190
    step = (WIDTH - 70) / len(operations)
    parts = []
    for tick in range(5):
        y = bottom - (bottom - 15) * tick / 4
        parts.append(f"<line x1='60' y1='{y:.1f}' x2='{WIDTH - 5}' y2='{y:.1f}' stroke='{GRID}'/>")
        parts.append(text(54, y + 4, f"{most * tick / 4:.3g} s", "end", 11, SOFT))
    for index, (what, number, seconds) in enumerate(operations):
        x, colour = 60 + step * (index + 0.5), colour_of(what)
        low, high, first = (bottom - (bottom - 15) * value / most for value in (min(seconds), max(seconds), seconds[0]))
        parts.append(f"<line x1='{x:.1f}' y1='{low:.1f}' x2='{x:.1f}' y2='{high:.1f}' stroke='{colour}' "
                     f"stroke-width='4' opacity='0.45'><title>{html.escape(what)} {number}: {min(seconds):.4f} to "
                     f"{max(seconds):.4f} s</title></line>")
        parts.append(f"<circle cx='{x:.1f}' cy='{first:.1f}' r='3.5' fill='{colour}'/>")
    for index, what in enumerate(dict.fromkeys(what for what, _, _ in operations)):
        parts.append(f"<circle cx='{66 + index * 150}' cy='{bottom + 20}' r='4' fill='{colour_of(what)}'/>")
        parts.append(text(76 + index * 150, bottom + 24, what))
    return svg(height, parts)


def html_of(runs):
    out = ["<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Checkpoints</title><style>",
           f"body{{font-family:system-ui,sans-serif;color:{INK};max-width:60rem;margin:2rem auto;padding:0 1rem}}",
           f"table{{border-collapse:collapse;margin:.5rem 0 1.5rem}}td,th{{border-bottom:1px solid {GRID};",
           "padding:.2rem .7rem;text-align:right}td:first-child,th:first-child{text-align:left}",
           ".notice{background:#fff3cd;padding:.6rem 1rem}svg{max-width:100%;height:auto}",
           "</style></head><body><h1>Checkpoints</h1>", f"<p class='notice'>{html.escape(NOTICE)}.</p>",
           "<h2>Rates</h2><p>GiB/s by rank 0's time, in brackets and filled by the slowest rank's.</p>", bars(runs)]
    for run in runs:
        out.append(f"<h2>{html.escape(run.title())}</h2><ul>")
        out += [f"<li>{html.escape(note)}</li>" for note in notes_of(run)]
        out.append("</ul><p>Seconds of each operation: from the fastest to the slowest rank; the dot is rank 0.</p>")
        out.append(dots(run))
        for heading, header, rows in tables_of(run):
            out.append(f"<h3>{html.escape(heading)}</h3><table><tr>")
            out += [f"<th>{html.escape(cell)}</th>" for cell in header] + ["</tr>"]
            out += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
            out.append("</table>")
    return "\n".join(out + ["</body></html>"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", metavar="DIRECTORY", help="where the report goes (default: the first results)")
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    arguments = parser.parse_args()
    output = arguments.output or arguments.results[0]
    try:
        runs = [Run(directory) for directory in arguments.results]
        for name, make in (("report.md", markdown_of), ("report.html", html_of)):
            with open(os.path.join(output, name), "w", encoding="utf-8") as file:
                file.write(make(runs) + "\n")
            print(os.path.join(output, name))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"report.py: {type(error).__name__}: {error}; RESULTS are directories of mlperf-checkpoint")


if __name__ == "__main__":
    main()
