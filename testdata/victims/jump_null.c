/* A call through a null function pointer: pc is 0, and the caller is found by the return address only. */
#include "victim.h"

struct operations {
    int (*open)(int);
    int (*close)(int);
};

static int do_open(int n) { return n + 1; }

NOINLINE int run(const struct operations *ops, int n) {
    int fd = ops->open(n);
    reached();
    return ops->close(fd) + fd;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    struct operations ops = {do_open, NULL};
    KEEP(ops);
    return run(&ops, argc);
}
