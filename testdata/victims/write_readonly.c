/* A write into a string literal. */
#include "victim.h"

NOINLINE void capitalise(char *text) {
    reached();
    text[0] = (char)(text[0] - 32);
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    char *volatile text = (char *)(uintptr_t)"postfault";
    capitalise(text);
    return text[0];
}
