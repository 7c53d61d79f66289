/* Many threads, half of them in system calls, that check their own work: whoever looks at this program must not change
 * what it does. At SIGTERM it prints OK, or WRONG and what, and ends. First argument after the mode: threads (200). */
#include "victim.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { MOST = 1024, ROUNDS = 64 };

struct worker {
    pthread_t thread;
    int id;
    volatile unsigned long rounds; /* finished rounds of work */
    volatile unsigned long digest; /* of everything done so far */
    volatile int error;            /* the first unexpected errno */
    int pipe[2];
};

static struct worker workers[MOST];
static int count;
static volatile int stop;

static unsigned long mixed(unsigned long digest, unsigned long value) {
    digest ^= value + 0x9e3779b97f4a7c15ul + (digest << 6) + (digest >> 2);
    return digest * 0xff51afd7ed558ccdul;
}

NOINLINE unsigned long compute_round(unsigned long digest, unsigned long round) {
    for (unsigned long i = 0; i < ROUNDS; i++)
        digest = mixed(digest, round * ROUNDS + i);
    return digest;
}

/* Half of the threads: computes in user space, and rests so that two processors are enough for all. */
NOINLINE void *compute(void *arg) {
    struct worker *w = arg;
    while (!stop) {
        w->digest = compute_round(w->digest, w->rounds);
        w->rounds++;
        struct timespec rest = {0, 2000000};
        while (nanosleep(&rest, &rest) != 0)
            if (errno != EINTR)
                w->error = errno;
    }
    return NULL;
}

/* The other half: sends itself every number through a pipe, and sleeps in the kernel. */
NOINLINE void *exchange(void *arg) {
    struct worker *w = arg;
    while (!stop) {
        unsigned long out = w->rounds * 3 + (unsigned long)w->id, in = 0;
        if (write(w->pipe[1], &out, sizeof out) != sizeof out || read(w->pipe[0], &in, sizeof in) != sizeof in)
            w->error = errno ? errno : -1;
        if (in != out)
            w->error = -2;
        w->digest = compute_round(w->digest, w->rounds);
        w->rounds++;
        struct timespec rest = {0, 3000000 + w->id * 1000};
        while (nanosleep(&rest, &rest) != 0)
            if (errno != EINTR)
                w->error = errno;
    }
    return NULL;
}

static int verify(void) {
    unsigned long total = 0;
    for (int n = 0; n < count; n++) {
        unsigned long digest = (unsigned long)workers[n].id;
        for (unsigned long round = 0; round < workers[n].rounds; round++)
            digest = compute_round(digest, round);
        if (digest != workers[n].digest || workers[n].error != 0 || workers[n].rounds == 0) {
            printf("WRONG thread %d rounds %lu error %d\n", n, workers[n].rounds, workers[n].error);
            return 1;
        }
        total += workers[n].rounds;
    }
    printf("OK %d threads %lu rounds\n", count, total);
    return 0;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    count = argc > 2 ? atoi(argv[2]) : 200;
    if (count < 1 || count > MOST)
        return 3;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 * 1024);
    for (int n = 0; n < count; n++) {
        struct worker *w = &workers[n];
        w->id = n + 1;
        w->digest = (unsigned long)w->id;
        if (pipe(w->pipe) != 0 || pthread_create(&w->thread, &small, n % 2 ? exchange : compute, w) != 0)
            return 3;
    }
    if (write(1, "ready\n", 6) != 6)
        return 3;
    int got;
    while (sigwait(&set, &got) != 0 || got != SIGTERM) {
    }
    stop = 1;
    for (int n = 0; n < count; n++)
        pthread_join(workers[n].thread, NULL);
    return verify();
}
