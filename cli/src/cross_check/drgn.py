# Runs inside drgn: writes every task of a Linux kernel with its frames, and what drgn says of the machine, as one line of
# JSON each. The file to write to and the most frames of one task come from the environment.
import json
import os

from drgn import FaultError, ObjectNotFoundError
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.panic import panic_message
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_printk_records
from drgn.helpers.linux.sched import idle_task, task_cpu, task_state_to_char

out = open(os.environ["POSTFAULT_PEER_OUT"], "w", encoding="utf-8", errors="replace")
most_frames = int(os.environ["POSTFAULT_PEER_FRAMES"])

# Idle tasks all have the pid 0; postfault numbers those of further CPUs from here.
FURTHER_IDLE = int(os.environ["POSTFAULT_PEER_IDLE"])
# No user program has code from here on (x86-64 with 5-level page tables).
USER_END = 1 << 56


def emit(kind, **fields):
    fields["kind"] = kind
    out.write(json.dumps(fields) + "\n")


def text(raw):
    return raw.decode("utf-8", "replace")


def fact(name, value):
    emit("fact", name=name, value=value)


def symbol_of(frame):
    try:
        return frame.symbol().name
    except LookupError:
        return None


def frame_entry(frame):
    entry = {"pc": frame.pc, "inline": frame.is_inline}
    entry["function"] = frame.function_name or symbol_of(frame)
    try:
        entry["file"], line, _ = frame.source()
        if line > 0:
            entry["line"] = line
    except LookupError:
        pass
    return entry


def walk(number, task):
    emit("thread", id=number)
    last = None
    try:
        frames = prog.stack_trace(task)
        for frame in list(frames)[:most_frames]:
            last = frame_entry(frame)
            emit("frame", **last)
    except (FaultError, LookupError, ValueError) as error:
        emit("end", why=str(error))
        return
    if last is not None and last["function"] is None and not 0x10000 <= last["pc"] < USER_END:
        # drgn ends a stack without a word where it has no rule for the caller.
        emit("end", why="no symbol at %#x, and no frame after it" % last["pc"])


def facts_of(number, task):
    key = "task %d " % number
    fact(key + "name", text(task.comm.string_()))
    fact(key + "state", task_state_to_char(task))
    fact(key + "cpu", str(task_cpu(task)))
    fact(key + "process", str(task.tgid.value_()))
    fact(key + "parent", str(task.real_parent.tgid.value_()))
    fact(key + "address", hex(task.value_()))


def guarded(what, function, *arguments):
    try:
        function(*arguments)
    except (FaultError, LookupError, ValueError, TypeError) as error:
        emit("failed", what=what, why=str(error))


def modules():
    for module in for_each_module(prog):
        name = text(module.name.string_())
        try:
            base = module.mem[prog.constant("MOD_TEXT")].base
        except (AttributeError, LookupError):
            base = module.core_layout.base
        fact("module " + name, hex(base.value_()))


def panic():
    try:
        message = panic_message(prog)
    except ObjectNotFoundError:
        return
    if message:
        fact("panic", text(message))


def crashed():
    try:
        thread = prog.crashed_thread()
    except ValueError:
        # No CPU panicked.
        return
    task = thread.object
    fact("crashed pid", str(task.pid.value_()))
    fact("crashed name", text(task.comm.string_()))
    fact("crashed cpu", str(task_cpu(task)))


def log():
    for record in get_printk_records(prog):
        for line in text(record.text).split("\n"):
            emit("log", time=record.timestamp, text=line)


tasks = [(task.pid.value_(), task) for task in for_each_task(prog) if task.pid.value_() != 0]
for cpu in for_each_possible_cpu(prog):
    try:
        tasks.append((FURTHER_IDLE + cpu if cpu else 0, idle_task(prog, cpu)))
    except (FaultError, LookupError) as error:
        emit("failed", what="idle task of CPU %d" % cpu, why=str(error))
for number, task in sorted(tasks, key=lambda pair: pair[0]):
    walk(number, task)
    guarded("task %d" % number, facts_of, number, task)
guarded("modules", modules)
guarded("panic message", panic)
guarded("crashed task", crashed)
guarded("log", log)
emit("done")
out.close()
