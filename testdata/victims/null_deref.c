/* A field of a null structure is written: the fault address is the offset of the field, 0x28. */
#include "victim.h"

struct pod {
    char name[0x28];
    long weight;
};

struct request {
    int id;
    struct pod *pod;
};

NOINLINE void store_weight(struct pod *pod, long w) {
    reached();
    pod->weight = w;
}

NOINLINE int handle(struct request *req, int depth) {
    store_weight(req->pod, 250 + depth);
    return req->id;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    struct request req = {.id = 7, .pod = NULL};
    KEEP(req);
    return handle(&req, argc);
}
