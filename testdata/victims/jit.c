/* Machine code in an anonymous mapping, with a frame pointer and without any information about it. */
#include "victim.h"
#include <sys/mman.h>

NOINLINE int callback(int value) {
    int seen = value * 2;
    KEEP(seen);
    finish();
    return seen;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    /* push rbp; mov rbp,rsp; sub rsp,32; call rsi; leave; ret */
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0xff, 0xd6, 0xc9, 0xc3};
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return 3;
    memcpy(page, code, sizeof code);
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0)
        return 3;
    int (*volatile enter)(int, int (*)(int)) = (int (*)(int, int (*)(int)))(uintptr_t)page;
    int r = enter(argc, callback);
    KEEP(r);
    return r;
}
