/* A process with as much resident memory as asked (argument after the mode: MiB, 64), filled with what compresses like
 * a real heap: records with pointers, text, counters and noise. Then it dies of a null pointer below a few frames. */
#include "victim.h"
#include <sys/mman.h>

struct record {
    struct record *next;
    unsigned long noise[4];
    unsigned id, length;
    char text[80];
};

static struct record *first;

static unsigned long step(unsigned long *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

NOINLINE struct record *fill(char *block, size_t bytes) {
    static const char *const words[] = {"request", "user", "session", "cache", "error", "timeout", "queue", "node"};
    struct record *records = (struct record *)block, *last = NULL;
    unsigned long state = 88172645463325252ul;
    for (size_t n = 0; n < bytes / sizeof *records; n++) {
        struct record *r = &records[n];
        r->next = last;
        for (int k = 0; k < 4; k++)
            r->noise[k] = step(&state);
        r->id = (unsigned)n;
        r->length = (unsigned)snprintf(r->text, sizeof r->text, "%s-%s/%lx", words[state & 7], words[state >> 8 & 7],
                                       state >> 16);
        last = r;
    }
    return last;
}

NOINLINE unsigned long walk(const struct record *list, int most) {
    unsigned long sum = 0;
    for (int n = 0; list && n < most; n++, list = list->next)
        sum += list->length;
    return sum;
}

NOINLINE unsigned long use(struct record *record, struct record *missing) {
    unsigned long sum = walk(record, 1000);
    reached();
    missing->id = (unsigned)sum;
    return sum;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    size_t mebibytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 64;
    char *block = mmap(NULL, mebibytes << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return 3;
    first = fill(block, mebibytes << 20);
    struct record *volatile missing = NULL;
    return (int)use(first, missing);
}
