/* What every C and C++ victim shares: how it says that it is ready, and how it waits or goes on to its end. */
#ifndef VICTIM_H
#define VICTIM_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#ifdef __clang__
#undef NOINLINE
#define NOINLINE __attribute__((noinline))
#endif
#define INLINE static inline __attribute__((always_inline))

/* Makes the compiler believe that memory was looked at, so that values stay alive up to here. */
#define KEEP(x) __asm__ volatile("" : : "g"(&(x)) : "memory")

/* volatile: the compiler must not learn that finish() never returns, or it would forget every value at the call. */
static volatile int victim_waits;

/* `wait` as the first argument: stop in reached() until killed. Anything else: go on and die. */
static inline void victim_start(int argc, char **argv) {
    victim_waits = argc > 1 && strcmp(argv[1], "wait") == 0;
}

/* The point at which a victim is looked at: prints "ready", then waits or returns. */
static NOINLINE void reached(void) {
    if (write(1, "ready\n", 6) != 6)
        _exit(3);
    while (victim_waits)
        pause();
    __asm__ volatile("" ::: "memory");
}

/* The end of victims that are about what they hold, not about how they die. */
static NOINLINE __attribute__((unused)) void finish(void) {
    reached();
    if (!victim_waits)
        abort();
}
#endif
