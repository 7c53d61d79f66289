// What the generated units and the program that drives them share.
#pragma once
struct Walk {
  int seed;
  int depth;
  bool die;
};
typedef int Step(Walk *, int);
int next_step(Walk *walk, int depth);
// Makes the compiler believe that `at` is read and written.
static inline void keep(void *at) { asm volatile("" : : "r"(at) : "memory"); }
