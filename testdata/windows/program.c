// A program of Windows without any library: every kind of frame that its unwind data can describe.
#define NI __attribute__((noinline))
volatile int sink;
volatile int *volatile nowhere = &sink;
static inline __attribute__((always_inline)) int inlined(int n) {
  *nowhere = n;
  return n + 1;
}
NI int leaf(int n) { return inlined(n) + sink; }
NI int many(int a, int b, int c, int d, int e, int f, int g) {
  volatile char buf[64];
  buf[a & 63] = b;
  int r = leaf(a + b);
  sink = c + d + e + f + g + r + buf[1];
  return sink + a + b + c + d + e + f + g + r;
}
NI int large(int n) {
  volatile char buf[70000];
  buf[n & 255] = n;
  int r = many(n, 2, 3, 4, 5, 6, 7);
  return r + buf[3];
}
NI int dynamic(int n) {
  volatile char *p = __builtin_alloca(n * 16);
  p[0] = n;
  int r = large(n);
  return r + p[0];
}
NI int tail(int n) {
  if (n & 1)
    return leaf(n + sink);
  return dynamic(n + 4) + dynamic(n + 2);
}
#ifdef __x86_64__
int chained(void);
__asm__(".globl __chkstk\n__chkstk: ret\n"
        ".globl saves\n.def saves; .scl 2; .type 32; .endef\n"
        ".seh_proc saves\nsaves: subq $72, %rsp\n.seh_stackalloc 72\n"
        "movq %rbx, 40(%rsp)\n.seh_savereg %rbx, 40\n"
        "movq %r13, 48(%rsp)\n.seh_savereg %r13, 48\n.seh_endprologue\n"
        "movl $1, %ebx\nmovl $2, %r13d\nint3\n"
        "movq 40(%rsp), %rbx\nmovq 48(%rsp), %r13\naddq $72, %rsp\nretq\n.seh_endproc\n"
        ".globl framed\n.def framed; .scl 2; .type 32; .endef\n"
        ".seh_proc framed\nframed: pushq %rbp\n.seh_pushreg %rbp\n"
        "subq $96, %rsp\n.seh_stackalloc 96\nleaq 32(%rsp), %rbp\n.seh_setframe %rbp, 32\n.seh_endprologue\n"
        "subq $48, %rsp\ncallq saves\nleaq 64(%rbp), %rsp\npopq %rbp\nretq\n.seh_endproc\n"
        // Three parts, of which the last two say that the first one's frame is below theirs.
        ".globl chained\n.def chained; .scl 2; .type 32; .endef\n"
        "chained: pushq %rbx\nsubq $32, %rsp\nmovl $7, %ebx\n"
        "part: movq %rsi, 56(%rsp)\nmovl $9, %esi\ncallq framed\nmovq 56(%rsp), %rsi\n"
        "rest: nop\naddq $32, %rsp\npopq %rbx\nretq\nend:\n"
        ".section .xdata,\"dr\"\n.p2align 2\n"
        "info1: .byte 1, 5, 2, 0, 5, 0x32, 1, 0x30\n"
        "info2: .byte 0x21, 5, 2, 0, 5, 0x64, 7, 0\n.long chained@IMGREL, part@IMGREL, info1@IMGREL\n"
        "info3: .byte 0x21, 0, 0, 0\n.long part@IMGREL, rest@IMGREL, info2@IMGREL\n"
        ".section .pdata,\"dr\"\n.p2align 2\n.long chained@IMGREL, part@IMGREL, info1@IMGREL\n"
        ".long part@IMGREL, rest@IMGREL, info2@IMGREL\n.long rest@IMGREL, end@IMGREL, info3@IMGREL\n.text\n"
        ".globl handler\n.def handler; .scl 2; .type 32; .endef\n"
        ".seh_proc handler\nhandler:\n.seh_pushframe\nsubq $40, %rsp\n.seh_stackalloc 40\n.seh_endprologue\n"
        "movl $3, %ecx\ncallq leaf\naddq $40, %rsp\niretq\n.seh_endproc\n");
__declspec(dllexport) void handler(void);
#else
void __chkstk(void) {}
static int chained(void) { return 0; }
#endif
int shapes(int n);
int start(void) { return tail(sink) + tail(sink & ~1) + chained() + shapes(1); }
