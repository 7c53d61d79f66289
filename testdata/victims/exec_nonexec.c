/* A call into data: mapped, readable, not executable. */
#include "victim.h"

static unsigned char code[64] = {0xc3};

NOINLINE int enter(int (*entry)(void)) {
    reached();
    return entry() + 1;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    int (*volatile entry)(void) = (int (*)(void))(uintptr_t)code;
    return enter(entry);
}
