/* Threads in known places: a futex wait, three system calls, a computing loop, a signal handler on its own stack, and
 * deep calls; the main thread waits or dies. */
#include "victim.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/prctl.h>
#include <time.h>

static pthread_barrier_t started;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static volatile unsigned long work;
static volatile int handled;
static int pipe_ends[2];

static void begin(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
    pthread_barrier_wait(&started);
}

NOINLINE void *in_condition(void *arg) {
    long id = (long)arg;
    pthread_mutex_lock(&lock);
    begin("condition");
    for (;;)
        pthread_cond_wait(&never, &lock);
    return (void *)id;
}

NOINLINE void *in_mutex(void *arg) {
    pthread_mutex_t *mine = arg;
    begin("mutex");
    pthread_mutex_lock(mine);
    KEEP(mine);
    return NULL;
}

NOINLINE void *in_read(void *arg) {
    char byte[4] = {0};
    int fd = *(int *)arg;
    begin("read");
    long got = read(fd, byte, sizeof byte);
    KEEP(byte);
    return (void *)got;
}

NOINLINE void *in_poll(void *arg) {
    struct pollfd waits = {.fd = *(int *)arg, .events = POLLIN};
    begin("poll");
    while (poll(&waits, 1, -1) < 1) {
    }
    return NULL;
}

NOINLINE void *in_sleep(void *arg) {
    struct timespec long_time = {.tv_sec = 1000000 + (long)arg};
    begin("sleep");
    clock_nanosleep(CLOCK_MONOTONIC, 0, &long_time, NULL);
    KEEP(long_time);
    return NULL;
}

NOINLINE unsigned long mix(unsigned long seed) {
    for (;;) {
        seed = seed * 6364136223846793005ul + 1442695040888963407ul;
        work = seed;
    }
    return seed;
}

NOINLINE void *in_loop(void *arg) {
    begin("loop");
    return (void *)mix((unsigned long)arg);
}

NOINLINE void on_signal(int number, siginfo_t *info, void *context) {
    handled = number + info->si_code;
    KEEP(context);
    syscall(SYS_tkill, 0, 0); /* a system call that fails: the handler goes on to wait */
    for (;;)
        pause();
}

NOINLINE int interrupted(int n) {
    int countdown = n * 7;
    begin("handler");
    raise(SIGUSR1);
    KEEP(countdown);
    return countdown;
}

NOINLINE void *in_handler(void *arg) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    return (void *)(long)interrupted((int)(long)arg);
}

NOINLINE int deeper(int left) {
    if (left == 0) {
        begin("deep");
        for (;;)
            pause();
    }
    int below = deeper(left - 1);
    KEEP(below);
    return below + 1;
}

NOINLINE void *in_depth(void *arg) { return (void *)(long)deeper((int)(long)arg); }

int main(int argc, char **argv) {
    victim_start(argc, argv);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&held);
    if (pipe(pipe_ends) != 0)
        return 3;
    pthread_t threads[8];
    pthread_barrier_init(&started, NULL, 9);
    pthread_create(&threads[0], NULL, in_condition, (void *)1);
    pthread_create(&threads[1], NULL, in_mutex, &held);
    pthread_create(&threads[2], NULL, in_read, &pipe_ends[0]);
    pthread_create(&threads[3], NULL, in_poll, &pipe_ends[0]);
    pthread_create(&threads[4], NULL, in_sleep, (void *)5);
    pthread_create(&threads[5], NULL, in_loop, (void *)6);
    pthread_create(&threads[6], NULL, in_handler, (void *)7);
    pthread_create(&threads[7], NULL, in_depth, (void *)50);
    pthread_barrier_wait(&started);
    while (!handled)
        usleep(1000);
    usleep(50000);
    reached();
    *(volatile int *)0x10 = 1;
    return 0;
}
