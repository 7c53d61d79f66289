/* A pointer that was overwritten by data: canonical, and mapped by nobody. */
#include "victim.h"

struct node {
    struct node *next;
    long value;
};

NOINLINE long sum(const struct node *list) {
    long total = 0;
    for (; list; list = list->next)
        total += list->value;
    return total;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    struct node last = {(struct node *)0x123456789000, 2}, first = {&last, 1};
    KEEP(first);
    KEEP(last);
    reached();
    return (int)sum(&first);
}
