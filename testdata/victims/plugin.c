/* The library that `dlopened` loads: its function calls back into the program. */
struct job {
    int id;
    int (*done)(int);
};

int plugin_state = 5;
static __thread int plugin_tls = 6;

static __attribute__((noinline)) int step(struct job *job, int round) {
    int local = round * 3 + plugin_tls;
    __asm__ volatile("" : : "g"(&local) : "memory");
    return job->done(local) + job->id;
}

__attribute__((visibility("default"))) int plugin_run(struct job *job) {
    int total = plugin_state;
    total += step(job, 4);
    __asm__ volatile("" : : "g"(&total) : "memory");
    return total;
}
