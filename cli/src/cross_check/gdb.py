# Runs inside gdb: writes every frame of every thread, with its variables, as one line of JSON each.
# The file to write to, whether variables are wanted, and the most frames of one thread come from the environment.
import json
import os

import gdb

out = open(os.environ["POSTFAULT_PEER_OUT"], "w", encoding="utf-8", errors="replace")
with_variables = os.environ["POSTFAULT_PEER_VARIABLES"] == "1"
most_frames = int(os.environ["POSTFAULT_PEER_FRAMES"])


def emit(kind, **fields):
    fields["kind"] = kind
    out.write(json.dumps(fields) + "\n")
    out.flush()


def text_of(value):
    return value.format_string(
        max_elements=1000, repeat_threshold=0, symbols=True, styling=False, static_members=False, deref_refs=True
    )


def variables_of(frame):
    found = []
    try:
        block = frame.block()
    except RuntimeError:
        return found
    while block is not None and not block.is_global and not block.is_static:
        for symbol in block:
            if not (symbol.is_argument or symbol.is_variable):
                continue
            entry = {"name": symbol.name, "argument": bool(symbol.is_argument)}
            try:
                value = symbol.value(frame)
                if value.is_optimized_out:
                    entry["absent"] = "<optimized out>"
                else:
                    entry["value"] = text_of(value)
            except Exception as error:  # gdb.error, and whatever a pretty-printer raises
                entry["absent"] = str(error)
            found.append(entry)
        if block.function is not None:
            break
        block = block.superblock
    return found


def frame_entry(frame):
    entry = {"pc": frame.pc(), "function": frame.name(), "inline": frame.type() == gdb.INLINE_FRAME}
    # A function that left the stack by a tail call: gdb reconstructs it from call sites.
    entry["tail_call"] = frame.type() == gdb.TAILCALL_FRAME
    entry["signal"] = frame.type() == gdb.SIGTRAMP_FRAME
    try:
        where = frame.find_sal()
        if where.symtab is not None:
            entry["file"] = where.symtab.fullname() or where.symtab.filename
            if where.line > 0:
                entry["line"] = where.line
    except (gdb.error, RuntimeError):
        pass
    if with_variables:
        # The bounds of arrays of variable length are computed in the selected frame, whatever frame is asked.
        frame.select()
        entry["variables"] = variables_of(frame)
    return entry


def walk(thread):
    thread.switch()
    emit("thread", id=thread.ptid[1] or thread.ptid[0])
    frame, last, count = gdb.newest_frame(), None, 0
    try:
        while frame is not None and count < most_frames:
            emit("frame", **frame_entry(frame))
            last, count = frame, count + 1
            frame = frame.older()
    except (gdb.error, RuntimeError, gdb.MemoryError) as error:
        emit("end", why=str(error))
        return
    if frame is not None:
        emit("end", why="limit of %d frames" % most_frames)
        return
    reason = last.unwind_stop_reason() if last is not None else gdb.FRAME_UNWIND_NO_REASON
    if reason not in (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST):
        emit("end", why=gdb.frame_stop_reason_string(reason))


for one in sorted(gdb.selected_inferior().threads(), key=lambda t: t.ptid):
    try:
        walk(one)
    except (gdb.error, RuntimeError) as error:
        emit("end", why=str(error))
emit("done")
out.close()
