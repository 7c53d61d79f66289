# Prints every variable of every frame of every thread as JSON, leaf by leaf.
import gdb, json

INT = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_ENUM)
AGGREGATE = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
POINTER = (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF)


def type_name(t):
    if t.unqualified().code in AGGREGATE + (gdb.TYPE_CODE_ENUM,):
        return str(t.pointer())[:-2]
    return str(t)


def is_character(t):
    t = t.unqualified()
    while t.code == gdb.TYPE_CODE_TYPEDEF:
        if t.name in ("wchar_t", "char16_t", "char32_t"):
            return True
        t = t.target().unqualified()
    return t.code in INT and (t.name in ("wchar_t", "char16_t", "char32_t") or
                              (t.code == gdb.TYPE_CODE_INT and t.sizeof == 1))


def text(v):
    try:
        return v.format_string(raw=True, repeat_threshold=0, max_elements=0, symbols=False)
    except Exception as e:
        return None


def tree(v, pointers, depth, top=False):
    out = {"type": type_name(v.type)}
    try:
        if v.is_optimized_out:
            out["absent"] = "optimised-out"
            return out
        t = v.type.strip_typedefs()
        v.fetch_lazy()
        if v.address is not None:
            out["address"] = int(v.address)
    except gdb.MemoryError as e:
        out["absent"] = "memory: " + str(e)
        return out
    except gdb.error as e:
        # A structure of which only some parts are lost is shown by its parts.
        if t.code not in AGGREGATE:
            out["absent"] = "error: " + str(e)
            return out
    try:
        if t.code in INT:
            out["text"] = text(v)
            # Python cannot have numbers of more than 8 bytes from gdb 13.
            out["int"] = out["text"] if t.sizeof > 8 else str(int(v))
        elif t.code == gdb.TYPE_CODE_FLT or t.code == gdb.TYPE_CODE_COMPLEX:
            out["float"] = text(v)
        elif t.code in POINTER:
            reference = t.code != gdb.TYPE_CODE_PTR
            target = t.target().strip_typedefs()
            out["int"] = str(int(v.referenced_value().address) if reference else int(v))
            if target.code == gdb.TYPE_CODE_FUNC:
                out["text"] = str(v)
            elif not reference and is_character(t.target()):
                out["string"] = str(v)
            elif str(t) == "decltype(nullptr)":
                pass
            elif pointers > 0 and target.code != gdb.TYPE_CODE_VOID and depth < 8 and out["int"] != "0":
                inner = v.referenced_value()
                out["pointee"] = tree(inner, pointers - 1, depth + 1)
        elif t.code == gdb.TYPE_CODE_ARRAY:
            low, high = t.range()
            n = min(high - low + 1, 64)
            out["count"] = high - low + 1
            out["elements"] = [tree(v[low + i], pointers, depth + 1) for i in range(n)] if depth < 8 else []
        elif t.code in AGGREGATE:
            out["fields"] = []
            if depth < 8:
                for f in t.fields():
                    if not hasattr(f, "bitpos"):
                        continue
                    child = tree(v[f], pointers, depth + 1)
                    child["name"] = f.name
                    child["base"] = f.is_base_class
                    out["fields"].append(child)
        elif t.code == gdb.TYPE_CODE_FUNC:
            out["text"] = str(v)
        else:
            out["text"] = text(v)
    except gdb.MemoryError as e:
        out["absent"] = "memory: " + str(e)
    except gdb.error as e:
        if "optimized out" in str(e):
            out["absent"] = "optimised-out"
        else:
            out["absent"] = "error: " + str(e)
    return out


def variables(frame):
    out = []
    try:
        block = frame.block()
    except RuntimeError:
        return out
    depth = 0
    while block is not None and not block.is_global and not block.is_static:
        for s in block:
            if not s.is_variable and not s.is_argument and not s.is_constant:
                continue
            if s.addr_class in (gdb.SYMBOL_LOC_UNRESOLVED, gdb.SYMBOL_LOC_TYPEDEF, gdb.SYMBOL_LOC_LABEL):
                continue
            try:
                v = s.value(frame)
                node = tree(v, 2, 0, True)
                node["shown"] = v.format_string(max_elements=64)[:4000]
            except gdb.error as e:
                node = {"type": type_name(s.type), "absent": "error: " + str(e)}
            node["name"] = s.name
            node["line"] = s.line
            node["argument"] = s.is_argument
            node["block"] = depth
            out.append(node)
        if block.function is not None:
            break
        block = block.superblock
        depth += 1
    return out


gdb.execute("set pagination off")
# What main was called with is its caller's to say.
gdb.execute("set backtrace past-main on")
gdb.execute("set print repeats 0")
gdb.execute("set width 0")
gdb.execute("set max-value-size unlimited")
result = []
for thread in sorted(gdb.selected_inferior().threads(), key=lambda t: t.num):
    thread.switch()
    frames = []
    frame = gdb.newest_frame()
    while frame is not None and len(frames) < 60:
        frame.select()
        frames.append({"pc": frame.pc(), "function": frame.name(), "inline": frame.type() == gdb.INLINE_FRAME,
                       "variables": variables(frame)})
        try:
            frame = frame.older()
        except gdb.error:
            break
    result.append({"id": thread.ptid[1], "frames": frames})
print("\n@@JSON" + json.dumps(result))
