/* A stack through assembly without frame pointer and without call frame information: only a scan gets over it. */
#include "victim.h"

int without_cfi(int value, int (*next)(int));

NOINLINE int beyond(int value) {
    int seen = value + 100;
    KEEP(seen);
    finish();
    return seen;
}

NOINLINE int before(int value) {
    int r = without_cfi(value, beyond);
    KEEP(r);
    return r + 1;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    return before(argc);
}
