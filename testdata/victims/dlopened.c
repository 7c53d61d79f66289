/* A stack through a library that was loaded by dlopen. */
#include "victim.h"
#include <dlfcn.h>

struct job {
    int id;
    int (*done)(int);
};

NOINLINE int done(int value) {
    int seen = value + 1;
    KEEP(seen);
    finish();
    return seen;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    if (n < 0)
        return 3;
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, "libplugin.so");
    void *library = dlopen(path, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 3;
    }
    int (*run)(struct job *) = (int (*)(struct job *))(uintptr_t)dlsym(library, "plugin_run");
    struct job job = {argc, done};
    int r = run(&job);
    KEEP(r);
    return r;
}
