"""Runs inside gdb: prints the rows of a stopped program, one fact a line, tab separated."""
import gdb

def show(*parts):
    print("PF\t" + "\t".join(str(p) for p in parts))

def number(expression):
    return int(gdb.parse_and_eval(expression)) & 0xFFFFFFFFFFFFFFFF

gdb.execute("set pagination off")
gdb.execute("set confirm off")
gdb.execute("set width 0")
# The expressions below are C, whatever language the frames are in.
gdb.execute("set language c")
gdb.execute("set breakpoint pending on")
gdb.execute("handle SIGUSR1 SIGUSR2 SIGALRM nostop noprint pass")
# A handler that the program installed itself (Rust's, for stack overflow) must run: only its abort counts.
if any(name in gdb.current_progspace().filename for name in ("rust_stack_overflow", "handled")):
    gdb.execute("handle SIGSEGV nostop noprint pass")
gdb.execute("run die >/dev/null 2>&1 </dev/null")
inferior = gdb.selected_inferior()
show("pid", inferior.pid)
show("tid", gdb.selected_thread().ptid[1])
for field in ["si_signo", "si_code"]:
    show(field, int(gdb.parse_and_eval("$_siginfo." + field)))
if int(gdb.parse_and_eval("$_siginfo.si_signo")) in (4, 7, 8, 11, 5):
    show("si_addr", number("$_siginfo._sifields._sigfault.si_addr"))
if int(gdb.parse_and_eval("$_siginfo.si_code")) in (0, -1, -6):
    show("si_pid", number("$_siginfo._sifields._kill.si_pid"))
frame = gdb.newest_frame()
index = 0
while frame is not None and index < 2000:
    name = frame.name() or ""
    kind = {gdb.INLINE_FRAME: "inline", gdb.SIGTRAMP_FRAME: "signal"}.get(frame.type(), "normal")
    show("frame", frame.pc(), kind, name)
    if kind != "inline" and index < 64:
        frame.select()
        for register in "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags fs_base".split():
            try:
                show("register", index, register, number("(unsigned long)$" + register))
            except gdb.error:
                pass
        for address, length in [(frame.pc() - 32, 64), (number("(unsigned long)$rsp") - 64, 512)]:
            try:
                show("bytes", address, bytes(inferior.read_memory(address, length)).hex())
            except gdb.MemoryError:
                pass
    try:
        frame = frame.older()
    except gdb.error:
        break
    index += 1
with open("/proc/%d/maps" % inferior.pid) as maps:
    for line in maps:
        parts = line.rstrip("\n").split(None, 5)
        start, end = parts[0].split("-")
        show("map", int(start, 16), int(end, 16), parts[1], int(parts[2], 16), parts[5] if len(parts) > 5 else "")
with open("/proc/%d/limits" % inferior.pid) as limits:
    for line in limits:
        show("limit", line.rstrip("\n"))
gdb.execute("kill")
