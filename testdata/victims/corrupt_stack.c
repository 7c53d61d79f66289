/* A stack whose saved frame pointers form a loop and whose return addresses were overwritten. */
#include "victim.h"

NOINLINE void smash(uintptr_t pattern) {
    uintptr_t *frame = __builtin_frame_address(0);
    reached();
    for (int i = 1; i < 24; i++)
        frame[i] = pattern;
    frame[0] = (uintptr_t)frame;
    __asm__ volatile("" ::: "memory");
    *(volatile int *)0x30 = 1;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    char room[512];
    memset(room, argc, sizeof room);
    KEEP(room);
    smash(0x4141414141414141);
    return room[0];
}
