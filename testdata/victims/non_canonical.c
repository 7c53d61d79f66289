/* A pointer of poison: not canonical on x86-64, so that the processor raises #GP and the kernel knows no address. */
#include "victim.h"

NOINLINE int peek(const int *where) {
    reached();
    return *where;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    int *volatile where = (int *)0xdeadbeefcafebabe;
    return peek(where);
}
