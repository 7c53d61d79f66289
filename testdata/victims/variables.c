/* Every kind of C variable: base types, arrays, structures, scopes, globals, thread-local storage. */
#include "victim.h"
#include <complex.h>
#include <stdbool.h>
#include <wchar.h>

enum colour { RED, GREEN = 5, BLUE };
enum mask { READ = 1, WRITE = 2, EXECUTE = 4 };
typedef unsigned long counter_t;
typedef int (*operation)(int, int);
typedef struct point { int x, y; } point_t;

struct flags {
    unsigned ready : 1;
    unsigned level : 3;
    signed delta : 5;
    unsigned long long wide : 40;
    bool last : 1;
};

union number {
    int i;
    float f;
    unsigned char bytes[4];
};

struct node {
    const char *name;
    struct node *next;
    union number number;
    struct { short a, b; };
    point_t corners[2];
};

struct tail {
    int len;
    char text[];
};

static const int table_const[4] = {1, 1, 2, 3};
int global_counter = 42;
static double static_ratio = 2.5;
struct node global_node = {"global", NULL, {7}, {1, 2}, {{3, 4}, {5, 6}}};
__thread int tls_value = 11;
static __thread char tls_text[8] = "thread";

static int add(int a, int b) { return a + b; }

NOINLINE int base_types(char c, signed char sc, unsigned char uc, short s, unsigned short us, int i, unsigned u, long l,
                        unsigned long ul, long long ll, float f, double d, long double ld, bool yes, wchar_t wide) {
#ifdef __SIZEOF_INT128__
    __int128 huge = ((__int128)1 << 100) + i;
    unsigned __int128 uhuge = ~(unsigned __int128)0;
    KEEP(huge); KEEP(uhuge);
#endif
    float complex fc = 1.5f + 2.5f * I;
    double complex dc = 3.0 - 4.0 * I;
    const volatile int cv = 9;
    float nan = __builtin_nanf(""), inf = __builtin_inff();
    double tiny = 1e-310, negative_zero = -0.0;
    char newline = '\n', high = (char)0xe9;
    KEEP(fc); KEEP(dc); KEEP(nan); KEEP(inf); KEEP(tiny); KEEP(negative_zero);
    KEEP(newline); KEEP(high); KEEP(ld);
    finish();
    return c + sc + uc + s + us + i + (int)u + (int)l + (int)ul + (int)ll + (int)f + (int)d + (int)ld + yes + wide + cv;
}

NOINLINE int aggregates(int n, point_t by_value, const point_t *by_pointer) {
    int row[5] = {1, 2, 3, 4, 5};
    int grid[2][3] = {{1, 2, 3}, {4, 5, 6}};
    short cube[2][2][2] = {{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}};
    int vla[n];
    double vla2[n][2];
    for (int k = 0; k < n; k++) {
        vla[k] = k * k;
        vla2[k][0] = k;
        vla2[k][1] = -k;
    }
    char text[16] = "hello";
    char filled[4] = {'a', 'b', 'c', 'd'};
    int zeroes[100] = {0};
    int run[60] = {[3] = 7, [4] = 7, [59] = 1};
    struct flags flags = {1, 5, -3, 0x123456789a, true};
    union number number = {.f = 1.0f};
    enum colour colour = BLUE, odd = (enum colour)3;
    enum mask mask = (enum mask)(READ | EXECUTE);
    counter_t count = 1234567890;
    operation op = add;
    operation none = NULL;
    struct node second = {"second", NULL, {8}, {3, 4}, {{1, 2}, {3, 4}}};
    struct node first = {"first", &second, {9}, {5, 6}, {{7, 8}, {9, 10}}};
    second.next = &first;
    const char *words[3] = {"one", "two", NULL};
    point_t *far = (point_t *)0x10;
    void *opaque = &first;
    struct tail *tail = malloc(sizeof *tail + 4);
    tail->len = 3;
    memcpy(tail->text, "abc", 4);
    int (*row_pointer)[3] = &grid[1];
    KEEP(row); KEEP(grid); KEEP(cube); KEEP(vla); KEEP(vla2); KEEP(text); KEEP(filled); KEEP(zeroes); KEEP(run);
    KEEP(flags); KEEP(number); KEEP(colour); KEEP(odd); KEEP(mask); KEEP(count); KEEP(op); KEEP(none); KEEP(first);
    KEEP(words); KEEP(far); KEEP(opaque); KEEP(tail); KEEP(row_pointer);
    int sum = base_types('x', -5, 200, -3000, 60000, -70000, 4000000000u, (long)-5000000000ll, (unsigned long)10000000000ull, -1ll, 1.25f,
                         3.141592653589793, 2.718281828459045235L, true, L'\u00e9');
    return sum + op(by_value.x, by_pointer->y) + row[n] + text[0] + vla[n - 1] + flags.delta;
}

NOINLINE int scopes(int value) {
    int outer = value * 2;
    KEEP(outer);
    {
        int inner = outer + 1;
        int value = inner * 10; /* hides the parameter */
        KEEP(inner);
        KEEP(value);
        for (int round = 0; round < 3; round++) {
            static int visits = 100;
            visits++;
            KEEP(round);
            if (round == 1) {
                point_t here = {round, value}, there = {3, 4};
                KEEP(here);
                outer += aggregates(4, here, &there) + visits;
            }
        }
    }
    return outer;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    tls_value += argc;
    KEEP(tls_text);
    KEEP(static_ratio);
    KEEP(table_const);
    KEEP(global_node);
    return scopes(argc + 1) + global_counter;
}
