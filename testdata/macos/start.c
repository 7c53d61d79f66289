// Where the program of macOS begins.
volatile int sink = 3;
int framed_all(int n);
int frameless_all(int n);
int shapes(int n);
#ifdef __aarch64__
int signed_all(int n);
#else
#define signed_all(n) 0
#endif
int start(void) { return framed_all(sink) + frameless_all(sink & ~1) + signed_all(sink) + shapes(2); }
