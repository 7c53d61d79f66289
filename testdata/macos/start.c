// Where the program of macOS begins.
volatile int sink = 3;
int framed_all(int n);
int frameless_all(int n);
int shapes(int n);
int start(void) { return framed_all(sink) + frameless_all(sink & ~1) + shapes(2); }
