// One process of an unusual shape, by name. Prints "ready PID" when it has it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static void on_signal(int number) { handled = number; }

static void ready(void) { printf("ready %d\n", getpid()); fflush(stdout); }

static void *sleeper(void *argument) {
    pthread_setname_np(pthread_self(), "odd) name (");
    if (argument) ready();
    for (;;) pause();
    return NULL;
}

static void *briefly(void *argument) { return argument; }

static void *breeder(void *argument) {
    (void)argument;
    for (;;) { pthread_t t; if (!pthread_create(&t, NULL, briefly, NULL)) pthread_join(t, NULL); }
    return NULL;
}

static void *vforker(void *argument) {
    (void)argument;
    // The child keeps its parent waiting, uninterruptibly, until the write end of the pipe is closed.
    int *ends = argument;
    char byte;
    pid_t child = vfork();
    if (child == 0) { close(ends[1]); if (read(ends[0], &byte, 1) < 0) _exit(1); _exit(7); }
    int status = 0;
    waitpid(child, &status, 0);
    printf("child %d\n", WEXITSTATUS(status)); fflush(stdout);
    return NULL;
}

int main(int argc, char **argv) {
    const char *shape = argc > 1 ? argv[1] : "plain";
    pthread_t thread;
    if (!strcmp(shape, "plain")) { ready(); for (;;) pause(); }
    if (!strcmp(shape, "dead-leader")) {
        pthread_create(&thread, NULL, sleeper, (void *)1);
        pthread_exit(NULL);
    }
    if (!strcmp(shape, "breeding")) {
        for (int i = 0; i < 8; i++) pthread_create(&thread, NULL, breeder, NULL);
        ready(); for (;;) pause();
    }
    if (!strcmp(shape, "vfork")) {
        int ends[2], hold[2];
        char byte;
        if (pipe(ends) || pipe(hold)) return 1;
        fcntl(ends[1], F_SETFD, FD_CLOEXEC);
        pthread_create(&thread, NULL, vforker, ends);
        usleep(200000);
        ready();
        // The test says when to end the child.
        if (read(0, &byte, 1) < 0) return 1;
        close(ends[1]);
        pthread_join(thread, NULL);
        return 0;
    }
    if (!strcmp(shape, "handler")) {
        /* Only sigsuspend() takes the signal: between a look at `handled` and pause() it would be lost. */
        sigset_t blocked, none;
        sigemptyset(&none);
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        sigprocmask(SIG_BLOCK, &blocked, NULL);
        signal(SIGUSR1, on_signal);
        ready();
        for (;;) { sigsuspend(&none); if (handled) { printf("handled %d\n", handled); fflush(stdout); handled = 0; } }
    }
    if (!strcmp(shape, "memory")) {
        char *page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(page, 0x5a, 3 * 4096);
        mprotect(page + 4096, 4096, PROT_NONE);
        munmap(page + 8192, 4096);
        printf("page %p\n", (void *)page);
        ready(); for (;;) pause();
    }
    if (!strcmp(shape, "guarded")) { prctl(PR_SET_DUMPABLE, 0); ready(); for (;;) pause(); }
    if (!strcmp(shape, "registers")) {
        pthread_create(&thread, NULL, sleeper, NULL);
        usleep(50000);
        ready();
#if defined(__x86_64__)
        static const unsigned char pattern[32] __attribute__((aligned(32))) = "0123456789abcdefghijklmnopqrstuv";
        __asm__ volatile("vmovdqa %0, %%ymm3\n vmovdqa %0, %%ymm15\n vpaddb %%ymm15, %%ymm15, %%ymm15\n"
                         "mov $0x1122334455667788, %%rbx\n mov $0x99aabbccddeeff00, %%r15\n"
                         "1: mov $34, %%eax\n syscall\n jmp 1b\n" ::"m"(pattern) : "memory");
#else
        __asm__ volatile("mov $0x11223344, %%esi\n 1: mov $29, %%eax\n int $0x80\n jmp 1b\n" ::: "memory");
#endif
    }
    if (!strcmp(shape, "watchful")) {
        extern int watchful(void);
        return watchful();
    }
    if (!strcmp(shape, "filtered")) {
        extern int filter(void);
        if (filter()) return 3;
        ready(); for (;;) pause();
    }
    if (!strcmp(shape, "waits")) {
        // The waits that end with EINTR after a stop unless someone takes care.
        extern int waits(void);
        ready();
        return waits();
    }
    return 2;
}

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>

static int set;
static void *on_semaphore(void *out) {
    struct sembuf down = { 0, -1, 0 };
    *(int *)out = semop(set, &down, 1) ? errno : 0;
    return NULL;
}
static void *on_epoll(void *out) {
    struct epoll_event event;
    int n = epoll_pwait(epoll_create1(0), &event, 1, -1, NULL);
    *(int *)out = n < 0 ? errno : n;
    return NULL;
}
static void *on_limited_epoll(void *out) {
    struct epoll_event event;
    int n = epoll_wait(epoll_create1(0), &event, 1, 1000000);
    *(int *)out = n < 0 ? errno : n;
    return NULL;
}

int waits(void) {
    pthread_t threads[3];
    int results[3] = { -1, -1, -1 };
    set = semget(IPC_PRIVATE, 1, 0600);
    pthread_create(&threads[0], NULL, on_semaphore, &results[0]);
    pthread_create(&threads[1], NULL, on_epoll, &results[1]);
    pthread_create(&threads[2], NULL, on_limited_epoll, &results[2]);
    char byte;
    // While a byte comes the threads are looked at; they still wait, or have their result.
    while (read(0, &byte, 1) == 1) { printf("results %d %d %d\n", results[0], results[1], results[2]); fflush(stdout); }
    semctl(set, 0, IPC_RMID);
    return 0;
}

// A program that looks for what a copy of it might leave behind.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/wait.h>

static volatile unsigned long counter;
static volatile int children;
static void on_child(int number) { (void)number; children++; }
static void *counting(void *unused) { (void)unused; for (;;) { counter++; usleep(100); } return NULL; }

int watchful(void) {
    pthread_t thread;
    char byte;
    signal(SIGCHLD, on_child);
    char *pages = mmap(NULL, 3 * 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 0x5a, 3 * 8192);
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(shared, 0x5a, 4096);
    madvise(pages + 8192, 4096, MADV_DONTFORK);
    madvise(pages + 2 * 8192, 4096, MADV_WIPEONFORK);
    pthread_create(&thread, NULL, counting, NULL);
    printf("pages %p %p %p\n", (void *)&counter, (void *)pages, (void *)shared);
    printf("ready\n"); fflush(stdout);
    for (;;) {
        if (read(0, &byte, 1) != 1) { printf("read failed\n"); fflush(stdout); return 1; }
        int child = waitpid(-1, NULL, WNOHANG | __WALL);
        printf("children %d wait %d\n", children, child); fflush(stdout);
    }
}

int filter(void) {
    struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    struct sock_fprog program = { 1, allow };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
