/* Recursion without an end: the fault is below the stack mapping, and hundreds of thousands of frames are the same. */
#include "victim.h"

static volatile int sink;

NOINLINE int descend(int level) {
    char block[64];
    memset(block, level, sizeof block);
    KEEP(block);
    int below = descend(level + 1);
    sink += block[level % 64];
    return below + sink;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    reached();
    return descend(argc);
}
