/* A failed assert(): glibc keeps the message in __abort_msg. */
#undef NDEBUG
#include "victim.h"
#include <assert.h>

NOINLINE void check_range(int low, int high) {
    reached();
    assert(low <= high && "range is turned");
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    check_range(argc + 9, argc);
    return 0;
}
