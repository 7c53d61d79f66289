// Functions of a program of macOS without any library: every kind of frame that compact unwind information describes.
// Compiled twice, with frame pointers and without.
#define NI __attribute__((noinline))
#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define F(name) JOIN(VARIANT, name)
extern volatile int sink;

static inline __attribute__((always_inline)) int inlined(int n) {
  sink = n;
  return n + 1;
}
NI int F(leaf)(int n) { return inlined(n) + sink; }
NI int F(many)(int a, int b, int c, int d, int e, int f, int g) {
  volatile char buf[64];
  buf[a & 63] = b;
  int r = F(leaf)(a + b);
  sink = c + d + e + f + g + r + buf[1];
  return sink + a + b + c + d + e + f + g + r;
}
// More than an immediate of one byte can say.
NI int F(large)(int n) {
  volatile char buf[3000];
  buf[n & 255] = n;
  int r = F(many)(n, 2, 3, 4, 5, 6, 7);
  return r + buf[3];
}
NI int F(dynamic)(int n) {
  volatile char *p = __builtin_alloca((n & 7) * 16 + 16);
  p[0] = n;
  int r = F(large)(n);
  return r + p[0];
}
NI int F(aligned)(int n) {
  volatile char buf[128] __attribute__((aligned(64)));
  buf[n & 127] = n;
  return F(leaf)(n) + buf[1];
}
// The frame is set up behind the first branch.
NI int F(shortcut)(int n, int m) {
  if (!n)
    return m + 1;
  int r = F(leaf)(n);
  for (int i = 0; i < (m & 3); i++)
    r += F(leaf)(r + i + m);
  return r + n;
}
// Leaves that save registers, and functions that save some of them, in different orders.
#ifdef __x86_64__
#define SAVES(name, ...)                                                                                               \
  NI int F(name)(int n) {                                                                                              \
    int r = F(leaf)(n);                                                                                                \
    __asm__ volatile("xorl %%ebx, %%ebx" : "+r"(r) : : __VA_ARGS__, "rbx");                                            \
    return r + n;                                                                                                      \
  }                                                                                                                    \
  NI int F(leaf_##name)(int n) {                                                                                       \
    __asm__ volatile("xorl %%ebx, %%ebx" : "+r"(n) : : __VA_ARGS__, "rbx");                                            \
    return n;                                                                                                          \
  }
SAVES(saves1, "rax")
SAVES(saves2, "r12")
SAVES(saves3, "r14", "r15")
SAVES(saves4, "r12", "r13", "r15")
SAVES(saves5, "r12", "r13", "r14", "r15")
#else
#define SAVES(name, ...)                                                                                               \
  NI int F(name)(int n) {                                                                                              \
    int r = F(leaf)(n);                                                                                                \
    __asm__ volatile("mov x19, #5" : "+r"(r) : : __VA_ARGS__, "x19");                                                  \
    return r + n;                                                                                                      \
  }                                                                                                                    \
  NI int F(leaf_##name)(int n) {                                                                                       \
    __asm__ volatile("mov x19, #5" : "+r"(n) : : __VA_ARGS__, "x19");                                                  \
    return n;                                                                                                          \
  }
SAVES(saves1, "x20")
SAVES(saves2, "x21", "x22")
SAVES(saves3, "x23", "x24", "x27", "x28")
SAVES(saves4, "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28")
SAVES(saves5, "x25", "d8", "d9", "d10", "d11", "d12", "d13", "d14", "d15")
#endif
NI int F(tail)(int n) {
  if (n & 1)
    return F(leaf)(n + sink);
  return F(dynamic)(n + 4) + F(dynamic)(n + 2);
}
NI int F(all)(int n) {
  int r = F(tail)(n) + F(tail)(n & ~1) + F(aligned)(n) + F(shortcut)(n & 1, n) + F(shortcut)(n | 1, n);
  r += F(saves1)(n) + F(saves2)(n) + F(saves3)(n) + F(saves4)(n) + F(saves5)(n);
  return r + F(leaf_saves1)(n) + F(leaf_saves2)(n) + F(leaf_saves3)(n) + F(leaf_saves4)(n) + F(leaf_saves5)(n);
}
