/* The table for people. */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MIB 1048576.0

enum figure report_floor_copy(const struct bench *b)
{
    const struct series *memcpy_s = &b->series[FLOOR_COPY_MEMCPY], *stream_s = &b->series[FLOOR_COPY_NONTEMPORAL];

    if (stream_s->count == 0)
        return FLOOR_COPY_MEMCPY;
    return series_spread(stream_s).median < series_spread(memcpy_s).median ? FLOOR_COPY_NONTEMPORAL : FLOOR_COPY_MEMCPY;
}

enum figure report_floor_of(const struct bench *b, enum figure figure)
{
    enum figure floor = series_info(figure)->floor;

    if (floor == FLOOR_COPY_MEMCPY)
        floor = report_floor_copy(b);
    if (floor == FLOOR_PUT && (b->series[FLOOR_PUT].count == 0 || strcmp(b->transport, "two-sided") == 0))
        floor = FLOOR_SEND;
    return floor != FIGURES && b->series[floor].count > 0 ? floor : FIGURES;
}

struct spread report_rate(const struct bench *b, enum figure figure)
{
    double bytes = bench_bytes(b, figure);
    struct spread s = series_spread(&b->series[figure]);

    return (struct spread){bytes / s.median / 1e9, bytes / s.max / 1e9, bytes / s.min / 1e9};
}

double report_slowdown(const struct bench *b)
{
    return series_spread(&b->series[STENCIL_DURING]).median / series_spread(&b->series[STENCIL_ALONE]).median;
}

/* 64 MiB, 1000 bytes, 3145735 bytes. */
static void format_bytes(int64_t bytes, char text[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;

    while (unit < 4 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, 32, "%" PRId64 " %s", bytes, units[unit]);
}

static void print_head(const struct bench *b, FILE *out)
{
    struct machine machine;
    char bytes[32];

    machine_describe(&machine);
    format_bytes(b->options.bytes, bytes);
    fprintf(out, "bench-checkpoint, dcache %s, %s\n", DCACHE_VERSION, machine.date);
    fprintf(out, "machine    %s, %ld cores, %.0f GiB, %s, %u host%s, load %.2f, huge pages on shared memory: %s\n",
            machine.cpu, machine.cores, machine.memory_GiB, machine.kernel, b->world.host_count,
            b->world.host_count > 1 ? "s" : "", machine.load, machine.huge_pages);
    fprintf(out, "MPI        %s%s, transport %s: %s\n", machine.mpi,
            b->mpi_threads == MPI_THREAD_MULTIPLE ? " with threads" : "", b->transport, b->transport_reason);
    fprintf(out,
            "work       %d ranks x %s in %" PRId64 " region%s, %u nodes, digest %s, store %s, %" PRId64 " round%s\n",
            b->world.size, bytes, b->options.regions, b->options.regions > 1 ? "s" : "", b->world.node_count,
            machine.digest, b->library.store, b->options.rounds, b->options.rounds > 1 ? "s" : "");
}

/* Four digits, also of a rate that is small because the message is. */
static int decimals(double value)
{
    return value >= 1 || value <= 0 ? 2 : 4;
}

static void print_figure(const struct bench *b, FILE *out, const char *text, enum figure figure)
{
    enum figure floor = report_floor_of(b, figure);

    if (b->series[figure].count == 0) {
        fprintf(out, "  %-38s      -\n", text);
        return;
    }
    struct spread rate = report_rate(b, figure), seconds = series_spread(&b->series[figure]);
    fprintf(out, "  %-38s %6.*f  %6.*f - %6.*f  %10.3f", text, decimals(rate.median), rate.median, decimals(rate.min),
            rate.min, decimals(rate.max), rate.max, seconds.median * 1e3);
    if (floor != FIGURES)
        fprintf(out, "  %5.2f of %6.*f %s", rate.median / report_rate(b, floor).median,
                decimals(report_rate(b, floor).median), report_rate(b, floor).median, series_info(floor)->key);
    fprintf(out, "\n");
}

static void print_title(FILE *out, const char *title)
{
    fprintf(out, "\n%-40s   GB/s     min -    max   median ms  of its floor (GB/s)\n", title);
}

static void print_milliseconds(FILE *out, const char *text, struct spread s)
{
    fprintf(out, "  %-38s %18.3f ms  (%.3f - %.3f)\n", text, s.median * 1e3, s.min * 1e3, s.max * 1e3);
}

static void print_computation(const struct bench *b, FILE *out)
{
    if (b->series[STENCIL_DURING].count == 0)
        return;
    fprintf(out, "\nthe computation behind which a step is replicated\n");
    print_milliseconds(out, "one iteration, alone", series_spread(&b->series[STENCIL_ALONE]));
    print_milliseconds(out, "one iteration, while replicating", series_spread(&b->series[STENCIL_DURING]));
    fprintf(out, "  %-38s %18.2f\n", "slow-down", report_slowdown(b));
    fprintf(out, "  %-38s %18.0f\n", "iterations until REPLICATED",
            series_spread(&b->series[BACKGROUND_ITERATIONS]).median);
    print_milliseconds(out, "lost by the loop in all, with the call", series_spread(&b->series[BACKGROUND_COST]));
}

static void print_once(const struct bench *b, FILE *out)
{
    fprintf(out, "\nonce\n");
    fprintf(out, "  %-38s %18.3f ms\n", "first open", b->firsts.open_s * 1e3);
    for (int i = 0; i < b->firsts.steps; i++)
        fprintf(out, "  first step in slot %d %36.3f ms   bare: %.3f ms, new files and page faults too\n", i,
                b->firsts.steps_s[i] * 1e3, b->firsts.floor_s * 1e3);
    fprintf(out, "\nmemory per rank, beyond the application's and the shards%s\n",
            b->overhead.exact ? "" : " (at least: this kernel does not let us reset its high-water mark)");
    fprintf(out, "  %-38s %18.2f MiB  (behind the rounds: %.2f heap, %.2f of programs, %.2f of MPI's shared memory)\n",
            "checkpoints", b->overhead.steps_MiB, b->overhead.parts_MiB.anonymous, b->overhead.parts_MiB.files,
            b->overhead.parts_MiB.shared);
    if (b->series[REBUILD].count > 0)
        fprintf(out, "  %-38s %18.2f MiB\n", "restart after a lost node", b->overhead.restart_MiB);
}

void report_print(const struct bench *b, FILE *out)
{
    print_head(b, out);
    print_title(out, "floors");
    print_figure(b, out, "copy, memcpy", FLOOR_COPY_MEMCPY);
    print_figure(b, out, "copy, non-temporal stores", FLOOR_COPY_NONTEMPORAL);
    print_figure(b, out, "copy and MPI_Put to the partner", FLOOR_PUT);
    if (b->series[FLOOR_PUT].count == 0)
        fprintf(out, "    no MPI_Put: %s\n", b->window_reason);
    print_figure(b, out, "copy and message to the partner", FLOOR_SEND);
    print_figure(b, out, "copy back (restart)", FLOOR_RESTORE);
    print_figure(b, out, "rebuild of a lost node", FLOOR_REBUILD);
    print_figure(b, out, "... with the replicas it kept", FLOOR_REBUILD_REPLICATED);
    print_milliseconds(out, "a checkpoint's agreements", series_spread(&b->series[FLOOR_AGREEMENTS]));
    print_title(out, "checkpoint");
    print_figure(b, out, "staged: checkpoint_begin", STAGED);
    print_figure(b, out, "replicated: checkpoint", REPLICATED);
    print_figure(b, out, "behind the computation: blocked", BACKGROUND_BLOCKED);
    print_figure(b, out, "behind the computation: replicated", BACKGROUND_REPLICATED);
    print_title(out, "restart");
    print_figure(b, out, "nothing lost", RESTART);
    print_figure(b, out, "one node lost (rate: of its bytes)", REBUILD);
    print_figure(b, out, "one node lost: replicated again", REBUILD_REPLICATED);
    if (b->series[OPEN].count > 0)
        print_milliseconds(out, "open, before that", series_spread(&b->series[OPEN]));
    print_computation(b, out);
    print_once(b, out);
}
