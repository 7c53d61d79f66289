/* A stack of 10,000 frames of the same function below a fault. */
#include "victim.h"

struct level {
    int number;
    struct level *above;
};

NOINLINE int descend(int left, struct level *above) {
    struct level here = {left, above};
    KEEP(here);
    if (left == 0) {
        reached();
        *(volatile int *)0x18 = left;
    }
    int below = descend(left - 1, &here);
    KEEP(below);
    return below + here.number;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    return descend(10000, NULL);
}
