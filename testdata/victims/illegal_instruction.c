/* ud2, as compilers emit for unreachable code. */
#include "victim.h"

NOINLINE int classify(int kind) {
    if (kind < 0)
        return -1;
    reached();
    __asm__ volatile("ud2");
    return kind;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    return classify(argc);
}
