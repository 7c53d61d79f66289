// Many threads, half of them in system calls, that check themselves: what they compute, that no wait ends with EINTR,
// that no byte and no signal is lost. On SIGTERM it stops and prints what it found.
//   worker THREADS
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT = 512, KINDS = 8, STEPS = 2000 };
static atomic_int stop, running;
static atomic_long interrupted, interrupted_unrepaired, wrong, lost, rounds, sent, received;
static uint64_t expected_bits;
static double expected_sum;

struct worker { pthread_t thread; int number, kind, in, out; sem_t fed; unsigned char next_out; atomic_int alive; };
static struct worker workers[LIMIT];

static void compute(uint64_t *bits, double *sum) {
    uint64_t x = 0x9e3779b97f4a7c15u;
    double s = 0;
    for (int i = 1; i <= STEPS; i++) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        s += (double)(x >> 11) / i;
    }
    *bits = x; *sum = s;
}

static void check_compute(void) {
    uint64_t bits; double sum;
    compute(&bits, &sum);
    if (bits != expected_bits || sum != expected_sum) wrong++;
    rounds++;
}

static void failed(int unrepaired) {
    if (errno == EINTR) { if (unrepaired) interrupted_unrepaired++; else interrupted++; }
    else wrong++;
}

static void take(unsigned char *expect, ssize_t got, const unsigned char *byte) {
    if (got == 1) { if (*byte != *expect) lost++; ++*expect; rounds++; } else failed(0);
}

static void *waiting(void *argument) {
    struct worker *w = argument;
    unsigned char byte = 0, expect = 0;
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, w->in, &event);
    struct timespec pause = { 0, 5000000 }, until;
    fd_set none;
    running++;
    while (!stop) {
        switch (w->kind) {
        case 0: if (nanosleep(&pause, NULL)) failed(0); rounds++; break;
        case 1: if (sem_wait(&w->fed)) failed(0); rounds++; break;
        case 2: { struct pollfd p = { .fd = -1 }; if (poll(&p, 1, 7)) failed(0); rounds++; break; }
        case 3: take(&expect, read(w->in, &byte, 1), &byte); break;
        case 4:
            if (epoll_wait(epoll, &event, 1, -1) != 1) failed(1);
            else take(&expect, read(w->in, &byte, 1), &byte);
            break;
        case 5: { struct timeval t = { 0, 6000 }; FD_ZERO(&none); if (select(0, &none, NULL, NULL, &t)) failed(0); rounds++; break; }
        case 6:
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 8000000; if (until.tv_nsec >= 1000000000) { until.tv_nsec -= 1000000000; until.tv_sec++; }
            if (sem_timedwait(&w->fed, &until) && errno != ETIMEDOUT) failed(0);
            rounds++;
            break;
        case 7: take(&expect, recv(w->in, &byte, 1, 0), &byte); break;
        }
    }
    w->alive = 0;
    return NULL;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number; (void)info; (void)context;
    received++;
}

static void *computing(void *argument) {
    struct worker *w = argument;
    struct timespec pause = { 0, 9000000 };
    running++;
    while (!stop) {
        check_compute();
        if (w->number % 20) nanosleep(&pause, NULL);
    }
    w->alive = 0;
    return NULL;
}

static void *feeding(void *argument) {
    int count = *(int *)argument, turn = 0;
    struct timespec pause = { 0, 1000000 };
    while (!stop) {
        for (int i = 0; i < count; i++) {
            struct worker *w = &workers[i];
            if (w->kind < 0) continue;
            sem_post(&w->fed);
            if (write(w->out, &w->next_out, 1) == 1) w->next_out++; else if (errno != EAGAIN) lost++;
        }
        // One real-time signal, which is queued and never merged with another one, to a computing thread.
        for (int i = 0; i < count; i++) {
            struct worker *w = &workers[turn++ % count];
            if (w->kind >= 0 || !w->alive) continue;
            union sigval value = { .sival_int = turn };
            if (!pthread_sigqueue(w->thread, SIGRTMIN + 3, value)) sent++;
            break;
        }
        nanosleep(&pause, NULL);
    }
    return NULL;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 200;
    if (count > LIMIT) count = LIMIT;
    sigset_t terminate, queued;
    sigemptyset(&terminate); sigaddset(&terminate, SIGTERM);
    sigprocmask(SIG_BLOCK, &terminate, NULL);
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGRTMIN + 3, &action, NULL);
    sigemptyset(&queued); sigaddset(&queued, SIGRTMIN + 3);
    compute(&expected_bits, &expected_sum);
    for (int i = 0; i < count; i++) {
        struct worker *w = &workers[i];
        int ends[2];
        w->number = i; w->alive = 1;
        w->kind = i % 2 ? (i / 2) % KINDS : -1;
        sem_init(&w->fed, 0, 0);
        if (w->kind == 7 ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends)) { perror("pipe"); return 1; }
        w->in = ends[0]; w->out = ends[1];
        pthread_attr_t small;
        pthread_attr_init(&small); pthread_attr_setstacksize(&small, 128 * 1024);
        if (pthread_create(&w->thread, &small, w->kind < 0 ? computing : waiting, w)) { perror("pthread_create"); return 1; }
    }
    // Only the waiting kinds that read are fed through their descriptors; the others would fill them up.
    for (int i = 0; i < count; i++)
        if (workers[i].kind >= 0 && workers[i].kind != 3 && workers[i].kind != 4 && workers[i].kind != 7) {
            int null = open("/dev/null", 1);
            dup2(null, workers[i].out); close(null);
        }
    pthread_t feeder;
    pthread_create(&feeder, NULL, feeding, &count);
    while (running < count) usleep(1000);
    printf("ready\n"); fflush(stdout);
    siginfo_t info;
    while (sigwaitinfo(&terminate, &info) < 0) failed(1);
    stop = 1;
    pthread_join(feeder, NULL);
    for (int i = 0; i < count; i++) {
        struct worker *w = &workers[i];
        if (w->kind >= 0) { sem_post(&w->fed); if (write(w->out, &w->next_out, 1) < 0) lost++; }
        pthread_join(w->thread, NULL);
    }
    // A thread that ended with a signal in its queue takes it along: those are not lost, they were never to be handled.
    printf("interrupted=%ld unrepaired=%ld wrong=%ld lost=%ld sent=%ld received=%ld rounds=%ld\n", interrupted,
           interrupted_unrepaired, wrong, lost, sent, received, rounds);
    return 0;
}
