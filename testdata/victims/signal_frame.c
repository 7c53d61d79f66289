/* A fault inside a signal handler that runs on an alternate stack, above code that a signal interrupted at a fault. */
#include "victim.h"
#include <signal.h>

static volatile int depth;

NOINLINE void second_handler(int number) {
    int in_second = number * 2;
    KEEP(in_second);
    reached();
    *(volatile int *)0x8 = in_second;
}

NOINLINE void first_handler(int number, siginfo_t *info, void *context) {
    uintptr_t address = (uintptr_t)info->si_addr;
    KEEP(address);
    KEEP(context);
    depth = number;
    raise(SIGUSR2);
    _exit(4);
}

NOINLINE int touch(volatile int *where) {
    int before = 3;
    KEEP(before);
    int value = *where;
    KEEP(value);
    return value + before;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    stack_t stack = {.ss_sp = malloc(262144), .ss_size = 262144};
    sigaltstack(&stack, NULL);
    struct sigaction fault = {.sa_sigaction = first_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};
    sigaction(SIGSEGV, &fault, NULL);
    struct sigaction user = {.sa_handler = second_handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &user, NULL);
    sigset_t none;
    sigemptyset(&none);
    return touch((volatile int *)0x20);
}
