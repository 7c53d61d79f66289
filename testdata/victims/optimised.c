/* What an optimiser makes of variables: location lists, entry values, pieces in registers, values without a place. */
#include "victim.h"

struct pair { long first, second; };
struct mixed { int number; float ratio; };

static volatile long sink;

INLINE long twice(long x) {
    long doubled = x + x;
    sink = doubled;
    return doubled;
}

INLINE long both(long a, long b) {
    long left = twice(a);
    long right = twice(b) + 1;
    sink = left ^ right;
    finish();
    return left * right;
}

/* The structure never gets an address: its halves live in two registers. */
NOINLINE long pieces(long a, long b) {
    struct pair pair = {a * 3, b * 5};
    struct mixed mixed = {(int)a, (float)b};
    long result = both(pair.first, pair.second);
    return result + pair.first - pair.second + mixed.number + (long)mixed.ratio;
}

/* `key` is dead after the call: only the caller's knowledge of it (an entry value) is left. */
NOINLINE long entry_values(long key, long kept) {
    long hash = key * 31 + 7;
    sink = key;
    long r = pieces(hash, kept);
    sink = r;
    return r + kept;
}

/* A pointer to something that was optimised away, and a constant that never was in memory. */
NOINLINE long implicit(long seed) {
    struct pair local = {seed, 99};
    const struct pair *to_local = &local;
    const int constant = 1234;
    long loop = 0;
    for (long i = 0; i < seed; i++)
        loop += i ^ sink;
    long r = entry_values(to_local->first + constant, loop | 1);
    sink = to_local->second + constant;
    return r + to_local->first;
}

NOINLINE double floats(double x, float y) {
    double scaled = x * 1.5;
    float half = y / 2;
    sink = (long)scaled;
    sink = implicit((long)(scaled + half));
    return scaled + half;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    double d = floats(argc + 3.0, (float)argc * 4);
    return (int)d;
}
