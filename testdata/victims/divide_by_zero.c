/* An integer division by zero: SIGFPE with FPE_INTDIV at the idiv. */
#include "victim.h"

NOINLINE int average(int total, int count) {
    reached();
    int mean = total / count;
    return mean;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    volatile int count = 0;
    return average(100 + argc, count);
}
