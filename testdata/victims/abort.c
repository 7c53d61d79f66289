/* abort() after a message on stderr. */
#include "victim.h"

NOINLINE void give_up(const char *why, int code) {
    reached();
    fprintf(stderr, "giving up: %s (%d)\n", why, code);
    abort();
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    give_up("no quorum", 40 + argc);
    return 0;
}
