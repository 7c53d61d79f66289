/* An element of a null array is read: the fault address is 4 * 6000 = 0x5dc0, inside the first 64 KiB. */
#include "victim.h"

NOINLINE int element(const int *table, unsigned index) {
    reached();
    return table[index];
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    const int *volatile table = NULL;
    return element(table, 5999 + (unsigned)(argc > 0));
}
