/* A mapped file that became shorter: SIGBUS with BUS_ADRERR. */
#include "victim.h"
#include <sys/mman.h>

NOINLINE int checksum(const unsigned char *bytes, size_t len) {
    int sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + bytes[i];
    return sum;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    FILE *file = tmpfile();
    if (!file || ftruncate(fileno(file), 8192) != 0)
        return 3;
    unsigned char *map = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (map == MAP_FAILED || ftruncate(fileno(file), 100) != 0)
        return 3;
    reached();
    return checksum(map, 8192);
}
