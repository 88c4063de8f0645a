/**
 * When to checkpoint and when to stop: dcache_should_checkpoint() and dcache_should_stop(). The decision is made from
 * rank 0's clocks and from what any rank was told (signals, scheduled events), and is the same on all ranks.
 *
 * Nothing is watched before the program asks for the first time: one that never asks is ended by SIGTERM as ever.
 */
#ifndef DCACHE_RUNTIME_SCHEDULE_H
#define DCACHE_RUNTIME_SCHEDULE_H

#include "runtime/options.h"
#include "runtime/signals.h"

struct dcache;
struct notices;

struct schedule {
    double last;             /**< when the last checkpoint ended, or the handle was opened (local clock) */
    double begun;            /**< when the checkpoint under way began */
    double cost;             /**< what a checkpoint takes of the program's time, smoothed; negative = none taken yet */
    bool watching;           /**< signals and events are watched from the first question on */
    bool signals;            /**< ours are installed */
    struct notices *notices; /**< on one rank of each node, if events are watched; owned */
    unsigned checkpoint;     /**< notices of a checkpoint that this rank has passed on or that were met */
    unsigned stop;           /**< notices of the end that this rank has passed on */
    bool wanted;             /**< a notice asks for a checkpoint that was not taken yet (equal on all ranks) */
    bool stopping;           /**< a notice asks for the end (equal on all ranks) */
};

void schedule_open(struct dcache *dc);

/** A checkpoint begins; it has ended, with this status. */
void schedule_begin(struct dcache *dc);
void schedule_end(struct dcache *dc, dcache_status_t status);

/** Stop watching. */
void schedule_close(struct dcache *dc);

/**
 * The interval between the end of a checkpoint and the begin of the next, in seconds, that wastes the least time when a
 * checkpoint takes `cost` seconds and the job fails every `mtbf` seconds on average: J. W. Young, "A first order
 * approximation to the optimum checkpoint interval", 1974: sqrt(2 cost mtbf); J. T. Daly, "A higher order estimate of
 * the optimum checkpoint interval for restart dumps", 2006, which adds terms that matter when failures are not rare.
 */
double schedule_optimum(double cost, double mtbf);

/** The interval to keep on `nodes` nodes, from the options and what a checkpoint has cost (negative = not known). */
double schedule_interval(const struct options *options, double cost, unsigned nodes);

/** The text of SLURM_JOB_END_TIME, seconds since 1970. False: it is none. */
bool schedule_parse_time(const char *text, int64_t *seconds);

#endif
