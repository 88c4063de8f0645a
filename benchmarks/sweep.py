#!/usr/bin/env python3
"""Run bench-checkpoint over numbers of ranks and sizes, and draw its figures against their floors.

Each run's JSON document becomes one line of the output file; the plot is one SVG that needs nothing else. A point that
is measured several times (--repeat) is drawn as the median of its runs; its bar goes from the slowest to the fastest
single round. Standard library only.
"""
import argparse
import json
import math
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from xml.sax.saxutils import escape

# Rows of the plot: title, unit, and (key, colour, words, floor's key, floor's words).
ROWS = (
    ("checkpoint", (
        ("staged", "#0b6bb5", "staged", "floor_copy", "floor: one copy"),
        ("replicated", "#d1510a", "replicated", "floor_put", "floor: copy and MPI_Put"),
    )),
    ("restart", (
        ("restart", "#178a5c", "nothing lost", "floor_restore", "floor: one copy back"),
        ("rebuild", "#9a3d97", "one node lost (its bytes)", "floor_rebuild", "floor: the same moved bare"),
    )),
)
PANEL_WIDTH, PANEL_HEIGHT = 330, 250
LEFT, TOP, GAP_X, GAP_Y, LEGEND_HEIGHT, BOTTOM = 78, 92, 28, 100, 26, 62
INK, SOFT_INK, GRID, FINE_GRID = "#1d2430", "#5b6472", "#d3d8df", "#eceff3"
FONT = "font-family='DejaVu Sans, Liberation Sans, Arial, sans-serif'"


# --- running ---------------------------------------------------------------------------------------------------------


def run_once(arguments, tier, ranks, size):
    """The document of one run."""
    command = [*shlex.split(arguments.mpirun), "-n", str(ranks), arguments.program, "--bytes", size, "--tier", tier,
               "--rounds", str(arguments.rounds), "--json", *arguments.option]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")
    return json.loads(done.stdout)


def run_all(arguments):
    """Every run's document, written to the output file as it comes. Rounds of all points take turns."""
    documents = []
    # A directory of our own on the tier: what a killed run leaves behind goes with it.
    tier = tempfile.mkdtemp(prefix="bench-sweep-", dir=arguments.tier)
    try:
        with open(arguments.output, "w", encoding="utf-8") as output:
            for repeat in range(arguments.repeat):
                for ranks in arguments.ranks:
                    for size in arguments.bytes:
                        print(f"sweep: {ranks} ranks, {size} per rank, run {repeat + 1} of {arguments.repeat}",
                              file=sys.stderr)
                        document = run_once(arguments, tier, ranks, size)
                        documents.append(document)
                        output.write(json.dumps(document) + "\n")
                        output.flush()
    finally:
        shutil.rmtree(tier, ignore_errors=True)
    return documents


def read_documents(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


# --- what is drawn ---------------------------------------------------------------------------------------------------


def points_of(documents, ranks, key):
    """(bytes, median, least, largest) of a figure, by size; sizes at which it was not measured are left out."""
    by_size = {}
    for document in documents:
        if document["ranks"] == ranks and document.get(f"{key}_GBps") is not None:
            by_size.setdefault(document["bytes_per_rank"], []).append(document)
    return [(size,
             statistics.median(d[f"{key}_GBps"] for d in found),
             min(d[f"{key}_GBps_min"] for d in found),
             max(d[f"{key}_GBps_max"] for d in found)) for size, found in sorted(by_size.items())]


def bytes_text(size):
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"


def rate_text(rate):
    return f"{rate:g}"


class Panel:
    """One pair of axes, both logarithmic, and where things are on it."""

    def __init__(self, left, top, sizes, low, high):
        self.left, self.top, self.sizes = left, top, sizes
        self.low, self.high = low, high
        spread = math.log2(max(sizes) / min(sizes)) or 1
        self.first, self.last = math.log2(min(sizes)) - 0.06 * spread, math.log2(max(sizes)) + 0.06 * spread

    def x(self, size):
        return self.left + PANEL_WIDTH * (math.log2(size) - self.first) / (self.last - self.first)

    def y(self, rate):
        share = (math.log10(rate) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return self.top + PANEL_HEIGHT * (1 - share)


def text(x, y, words, size=12, anchor="middle", colour=INK, more=""):
    return (f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{colour}' {FONT} {more}>"
            f"{escape(words)}</text>")


def line(x1, y1, x2, y2, colour, width=1.0):
    return (f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' "
            f"stroke-width='{width}'/>")


def rate_ticks(low, high):
    """(rate, whether it is labelled): 1, 2 and 5 of each power of ten are labelled unless there are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    labelled = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ticks = [(digit * 10.0 ** power, digit in labelled) for power in powers for digit in range(1, 10)]
    return [tick for tick in ticks if low <= tick[0] <= high]


def size_ticks(sizes):
    """Not more than fit below a panel."""
    step = math.ceil(len(sizes) / 6)
    return sizes[::-1][::step][::-1]


def draw_axes(panel, with_rates):
    out = [f"<rect x='{panel.left}' y='{panel.top}' width='{PANEL_WIDTH}' height='{PANEL_HEIGHT}' fill='#ffffff'/>"]
    right, bottom = panel.left + PANEL_WIDTH, panel.top + PANEL_HEIGHT
    for rate, labelled in rate_ticks(panel.low, panel.high):
        y = panel.y(rate)
        out.append(line(panel.left, y, right, y, GRID if labelled else FINE_GRID))
        if labelled and with_rates:
            out.append(text(panel.left - 8, y + 4, rate_text(rate), 11, "end", SOFT_INK))
    for size in size_ticks(panel.sizes):
        x = panel.x(size)
        out.append(line(x, panel.top, x, bottom, FINE_GRID))
        out.append(line(x, bottom, x, bottom + 5, SOFT_INK))
        out.append(text(x, bottom + 18, bytes_text(size), 10.5, "middle", SOFT_INK))
    out.append(f"<rect x='{panel.left}' y='{panel.top}' width='{PANEL_WIDTH}' height='{PANEL_HEIGHT}' fill='none' "
               f"stroke='{SOFT_INK}'/>")
    return out


def draw_series(panel, points, colour, is_floor, aside):
    """The figures: full line, full dots, bars. Their floors: dashed line, hollow dots. Bars are a little `aside`."""
    if not points:
        return []
    path = " ".join(f"{panel.x(size):.1f},{panel.y(rate):.1f}" for size, rate, _, _ in points)
    style = "stroke-width='1.6' stroke-dasharray='6 4'" if is_floor else "stroke-width='2.4'"
    out = [f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-linejoin='round' {style}/>"]
    for size, rate, least, most in points:
        x = panel.x(size)
        if not is_floor:
            bar = x + aside
            out.append(line(bar, panel.y(least), bar, panel.y(most), colour, 1.1))
            out.extend(line(bar - 3, panel.y(end), bar + 3, panel.y(end), colour, 1.1) for end in (least, most))
        fill, radius = ("#ffffff", 3.2) if is_floor else (colour, 3.8)
        out.append(f"<circle cx='{x:.1f}' cy='{panel.y(rate):.1f}' r='{radius}' fill='{fill}' stroke='{colour}' "
                   f"stroke-width='1.5'><title>{escape(bytes_text(size))}: {rate:.3g} GB/s</title></circle>")
    return out


def draw_legend(figures, left, top):
    out = []
    for index, (_, colour, words, _, floor_words) in enumerate(figures):
        for is_floor, label in ((False, words), (True, floor_words)):
            x = left + (2 * index + is_floor) * 212 - (16 if is_floor else 0)
            style = "stroke-width='1.6' stroke-dasharray='6 4'" if is_floor else "stroke-width='2.4'"
            fill = "#ffffff" if is_floor else colour
            out.append(f"<line x1='{x}' y1='{top}' x2='{x + 34}' y2='{top}' stroke='{colour}' {style}/>")
            out.append(f"<circle cx='{x + 17}' cy='{top}' r='3.4' fill='{fill}' stroke='{colour}' stroke-width='1.5'/>")
            out.append(text(x + 42, top + 4, label, 12, "start"))
    return out


def row_limits(documents, all_ranks, figures):
    """A little below the least and a little above the largest of all panels of the row, so that they compare."""
    rates = []
    for ranks in all_ranks:
        for key, _, _, floor, _ in figures:
            rates += [value for point in points_of(documents, ranks, key) for value in point[1:]]
            rates += [point[1] for point in points_of(documents, ranks, floor)]
    return (min(rates) / 1.25, max(rates) * 1.25) if rates else (0.1, 10)


def draw_row(documents, all_ranks, sizes, row, top):
    title, figures = row
    low, high = row_limits(documents, all_ranks, figures)
    out = [text(LEFT, top - 52, title, 15, "start", INK, "font-weight='bold'"),
           *draw_legend(figures, LEFT + 110, top - 57)]
    middle = top + PANEL_HEIGHT / 2
    out.append(text(26, middle, "application GB/s", 12, "middle", INK, f"transform='rotate(-90 26 {middle})'"))
    for column, ranks in enumerate(all_ranks):
        panel = Panel(LEFT + column * (PANEL_WIDTH + GAP_X), top, sizes, low, high)
        out += draw_axes(panel, column == 0)
        for index, (key, colour, _, floor, _) in enumerate(figures):
            out += draw_series(panel, points_of(documents, ranks, floor), colour, True, 0)
            out += draw_series(panel, points_of(documents, ranks, key), colour, False, 4 * index - 2)
        out.append(text(panel.left + PANEL_WIDTH / 2, top - 14, f"{ranks} rank{'s' if ranks > 1 else ''}", 12.5))
        out.append(text(panel.left + PANEL_WIDTH / 2, top + PANEL_HEIGHT + 38, "bytes per rank", 12))
    return out


def subtitle(documents):
    machine, first = documents[0]["machine"], documents[0]
    runs = max(sum(1 for d in documents if (d["ranks"], d["bytes_per_rank"]) == (first["ranks"], first["bytes_per_rank"]))
               , 1)
    return (f"{machine['cpu']}, {machine['cores']} cores; {machine['mpi']}, {first['transport']}; dcache "
            f"{first['dcache']}; {machine['date'][:10]}; {first['rounds']} rounds x {runs} runs, medians; "
            "bars: slowest to fastest round")


def draw(documents):
    """The SVG."""
    all_ranks = sorted({document["ranks"] for document in documents})
    sizes = sorted({document["bytes_per_rank"] for document in documents})
    width = max(LEFT + len(all_ranks) * (PANEL_WIDTH + GAP_X), 960)
    tops = [TOP + 64 + index * (PANEL_HEIGHT + GAP_Y + LEGEND_HEIGHT) for index in range(len(ROWS))]
    height = tops[-1] + PANEL_HEIGHT + BOTTOM
    out = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}'>",
           f"<rect width='{width}' height='{height}' fill='#f7f8fa'/>",
           text(LEFT, 38, "dcache: checkpoints and restarts against their floors", 20, "start", INK,
                "font-weight='bold'"),
           text(LEFT, 62, subtitle(documents), 12, "start", SOFT_INK)]
    for row, top in zip(ROWS, tops):
        out += draw_row(documents, all_ranks, sizes, row, top)
    return "\n".join([*out, "</svg>", ""])


# --- command line ----------------------------------------------------------------------------------------------------


def number_list(words):
    numbers = [int(word) for word in words.split(",")]
    if min(numbers) < 1:
        raise ValueError
    return numbers


def size_list(words):
    return words.split(",")


def parse():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--program", default=os.path.join(here, "..", "build", "bin", "bench-checkpoint"))
    parser.add_argument("--mpirun", default="mpirun --oversubscribe", help="launcher and its options (%(default)s)")
    parser.add_argument("--ranks", type=number_list, default=[2, 4, 8], help="numbers of ranks (2,4,8)")
    parser.add_argument("--bytes", type=size_list, default=["1MiB", "4MiB", "16MiB", "64MiB", "256MiB"],
                        help="sizes per rank (1MiB,4MiB,16MiB,64MiB,256MiB)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each run (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each point (%(default)s)")
    parser.add_argument("--option", action="append", default=[], metavar="WORD",
                        help="one more word for bench-checkpoint, such as --option=--transport --option=two-sided")
    parser.add_argument("--tier", default="/dev/shm", help="directory on the memory tier (%(default)s)")
    parser.add_argument("--output", default="sweep.jsonl", help="a JSON document per run (%(default)s)")
    parser.add_argument("--plot", default="sweep.svg", help="(%(default)s)")
    parser.add_argument("--replot", metavar="FILE", help="run nothing, draw what an earlier sweep wrote")
    return parser.parse_args()


def main():
    arguments = parse()
    try:
        documents = read_documents(arguments.replot) if arguments.replot else run_all(arguments)
        if not documents:
            raise RuntimeError(f"{arguments.replot} has no documents")
        with open(arguments.plot, "w", encoding="utf-8") as plot:
            plot.write(draw(documents))
    except (OSError, RuntimeError, ValueError, KeyError) as failure:
        print(f"sweep: {failure if not isinstance(failure, KeyError) else f'no {failure} in a document'}",
              file=sys.stderr)
        return 1
    print(f"sweep: {len(documents)} runs; plot in {arguments.plot}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
