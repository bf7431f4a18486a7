/* Read bandwidth of memory: each thread sums its part of a buffer that no cache holds. Prints bytes per second, a line
 * for each pass. Usage: bandwidth THREADS MEBIBYTES PASSES. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LANES = 32 }; /* running sums of a thread: enough that none waits for its last addition */

struct part {
    const uint64_t *begin;
    size_t count;
    uint64_t sum;
};

static void *sum_part(void *argument) {
    struct part *part = argument;
    uint64_t sums[LANES] = {0};
    for (size_t i = 0; i + LANES <= part->count; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += part->begin[i + lane];
    for (int lane = 0; lane < LANES; lane++)
        part->sum += sums[lane];
    return NULL;
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    size_t threads = strtoul(argv[1], NULL, 10), bytes = strtoul(argv[2], NULL, 10) << 20;
    int passes = atoi(argv[3]);
    uint64_t *buffer = malloc(bytes);
    pthread_t *ids = calloc(threads, sizeof *ids);
    struct part *parts = calloc(threads, sizeof *parts);
    if (threads == 0 || buffer == NULL || ids == NULL || parts == NULL)
        return 1;
    size_t words = bytes / sizeof *buffer;
    for (size_t i = 0; i < words; i++) /* every page is its own: zero pages would all be one */
        buffer[i] = i;
    for (int pass = 0; pass < passes; pass++) {
        double begun = now();
        for (size_t t = 0; t < threads; t++) {
            parts[t] = (struct part){buffer + t * (words / threads), words / threads, 0};
            if (pthread_create(&ids[t], NULL, sum_part, &parts[t]) != 0)
                return 1;
        }
        uint64_t total = 0;
        for (size_t t = 0; t < threads; t++) {
            pthread_join(ids[t], NULL);
            total += parts[t].sum;
        }
        double seconds = now() - begun;
        if (total == 0) /* keeps the sums from being optimised away */
            return 1;
        printf("%.0f\n", (double)bytes / seconds);
    }
    return 0;
}
