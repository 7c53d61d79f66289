# Runs inside gdb: writes every frame of every thread, with its variables, as one line of JSON each.
# The file to write to, whether variables are wanted, and the most frames of one thread come from the environment.
import itertools
import json
import os
import sys

import gdb

out = open(os.environ["POSTFAULT_PEER_OUT"], "w", encoding="utf-8", errors="replace")
with_variables = os.environ["POSTFAULT_PEER_VARIABLES"] == "1"
most_frames = int(os.environ["POSTFAULT_PEER_FRAMES"])

# How much of a value is taken apart: more than postfault shows by itself, so that a difference is never a limit of this.
LIMIT_DEPTH = 12
LIMIT_POINTERS = 2
LIMIT_ELEMENTS = 80
LIMIT_STRING = 1100
LIMIT_NODES = 20000
LIMIT_FRAMES = 12000
# gdb asks every frame in between for a register that calls need not keep.
LIMIT_STALE = 1100
LIMIT_CODE = 1 << 16

NUMBERS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_ENUM)
STRUCTURES = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
REFERENCES = (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF)
WIDE = ("wchar_t", "char16_t", "char32_t")
# What a called function need not keep, in the ABIs of x86-64 and i386.
CLOBBERED = {
    8: ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"),
    4: ("eax", "ecx", "edx"),
}


def emit(kind, **fields):
    fields["kind"] = kind
    out.write(json.dumps(fields) + "\n")
    out.flush()


def load_printers_of_rust():
    # What the script rust-gdb does. Other languages' printers are loaded by gdb itself.
    folder = os.environ.get("POSTFAULT_PEER_RUST", "")
    if not os.path.isdir(folder):
        return
    sys.path.append(folder)
    try:
        import gdb_lookup

        gdb_lookup.register_printers(gdb.current_progspace())
    except Exception as error:  # whatever another version of it raises
        sys.stderr.write("printers for Rust: %s\n" % error)


def text_of(value):
    return value.format_string(
        max_elements=1000, repeat_threshold=0, symbols=True, styling=False, static_members=False, deref_refs=True
    )


def raw_text(value, symbols=False):
    return value.format_string(raw=True, repeat_threshold=0, max_elements=0, symbols=symbols, styling=False)


def character_size(type_):
    """Bytes of one character, or None where this is no character of C or C++."""
    type_ = type_.unqualified()
    while type_.code == gdb.TYPE_CODE_TYPEDEF:
        if type_.name in WIDE:
            return type_.sizeof
        type_ = type_.target().unqualified()
    if type_.name in WIDE or (type_.code in (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR) and type_.sizeof == 1):
        return type_.sizeof
    return None


def decoded(raw, unit):
    """The bytes of a text of characters of `unit` bytes, in UTF-8 where they are wide."""
    if unit == 1:
        return raw
    return raw.decode("utf-16-le" if unit == 2 else "utf-32-le", "replace").encode("utf-8", "replace")


def string_at(address, unit):
    """The bytes up to the terminator, or what there is of them."""
    memory, raw = gdb.selected_inferior(), b""
    while len(raw) < LIMIT_STRING:
        try:
            one = bytes(memory.read_memory(address + len(raw), unit))
        except gdb.error:
            return decoded(raw, unit).hex() if raw else None
        if not any(one):
            break
        raw += one
    return decoded(raw, unit).hex()


class LibcxxText:
    """std::string and std::string_view of libc++ (<string>, the layout without _LIBCPP_ABI_ALTERNATE_STRING_LAYOUT)."""

    def __init__(self, address, length):
        self.address, self.length = address, length

    def to_string(self):
        raw = gdb.selected_inferior().read_memory(self.address, min(self.length, LIMIT_STRING)) if self.length else b""
        return Raw(bytes(raw))


class Raw:
    """The bytes of a text."""

    def __init__(self, raw):
        self.raw = raw


class LibcxxElements:
    """A sequence of libc++."""

    def __init__(self, what, length, elements):
        self.what, self.length, self.elements = what, length, elements

    def to_string(self):
        return "%s of length %d" % (self.what, self.length)

    def children(self):
        for n, element in enumerate(self.elements):
            yield "[%d]" % n, element


def libcxx_list(value, element):
    link = value["__end_"]["__next_"]
    node = gdb.lookup_type("std::__1::__list_node<%s, void*>" % element).pointer()
    for _ in range(int(value["__size_alloc_"]["__value_"])):
        yield link.cast(node)["__value_"]
        link = link["__next_"]


def libcxx_deque(value, element):
    each = 4096 // element.sizeof if element.sizeof < 256 else 16
    start = int(value["__start_"])
    for n in range(start, start + int(value["__size_"]["__value_"])):
        yield value["__map_"]["__begin_"][n // each][n % each]


def libcxx(value):
    """gdb comes without printers for libc++: what its sequences and texts hold, by the headers of version 14."""
    type_ = value.type.strip_typedefs().unqualified()
    name = (type_.name or "").split("<")[0]
    if not name.startswith("std::__1::"):
        return None
    name = name[len("std::__1::") :]
    if name == "basic_string" and type_.template_argument(0).sizeof == 1:
        parts = value["__r_"]["__value_"]
        small = int(parts["__s"]["__size_"])
        if small & 1:
            return LibcxxText(int(parts["__l"]["__data_"]), int(parts["__l"]["__size_"]))
        return LibcxxText(int(parts["__s"]["__data_"].address), small >> 1)
    if name == "basic_string_view" and type_.template_argument(0).sizeof == 1:
        return LibcxxText(int(value["__data"]), int(value["__size"]))
    if name not in ("vector", "list", "deque"):
        return None
    element = type_.template_argument(0)
    if name == "vector" and element.strip_typedefs().code == gdb.TYPE_CODE_BOOL:
        words, count = value["__begin_"], int(value["__size_"])
        bits = 8 * words.type.target().sizeof
        return LibcxxElements(name, count, (int(words[n // bits]) >> (n % bits) & 1 for n in range(count)))
    if name == "vector":
        count = int(value["__end_"] - value["__begin_"]) if int(value["__begin_"]) else 0
        return LibcxxElements(name, count, (value["__begin_"][n] for n in range(count)))
    if name == "list":
        return LibcxxElements(name, int(value["__size_alloc_"]["__value_"]), libcxx_list(value, element))
    return LibcxxElements(name, int(value["__size_"]["__value_"]), libcxx_deque(value, element))


class Walker:
    """Takes the values of one frame apart."""

    def __init__(self):
        self.left = LIMIT_NODES

    def tree(self, value, pointers=0, depth=0):
        node = {}
        self.left -= 1
        if self.left < 0 or depth > LIMIT_DEPTH:
            return {"cut": True}
        try:
            if value.is_optimized_out:
                return {"absent": "<optimized out>"}
            plain = value.type.strip_typedefs()
            value.fetch_lazy()
        except gdb.error as error:
            plain = value.type.strip_typedefs()
            # A structure of which only some parts are lost is shown by its parts.
            if isinstance(error, gdb.MemoryError) or plain.code not in STRUCTURES:
                return {"absent": str(error)}
        try:
            self.fill(node, value, plain, pointers, depth)
        except Exception as error:  # gdb.error, and what Python makes of values it cannot have
            return {"absent": str(error)}
        return node

    def fill(self, node, value, plain, pointers, depth):
        node["type"] = str(value.type.unqualified()) if plain.code in STRUCTURES else ""
        node["size"] = plain.sizeof
        if plain.code in NUMBERS:
            node["text"] = raw_text(value)
            # Python cannot have numbers of more than 8 bytes from gdb 13.
            node["integer"] = node["text"] if plain.sizeof > 8 else str(int(value))
        elif plain.code in (gdb.TYPE_CODE_FLT, gdb.TYPE_CODE_COMPLEX, gdb.TYPE_CODE_DECFLOAT):
            node["float"] = raw_text(value)
        elif plain.code == gdb.TYPE_CODE_PTR or plain.code in REFERENCES:
            self.pointer(node, value, plain, pointers, depth)
        elif plain.code == gdb.TYPE_CODE_ARRAY:
            self.array(node, value, plain, pointers, depth)
        elif plain.code in STRUCTURES:
            self.members(node, value, plain, pointers, depth)
            self.contents(node, value, pointers, depth)
        else:
            node["text"] = raw_text(value, symbols=True)

    def pointer(self, node, value, plain, pointers, depth):
        reference = plain.code in REFERENCES
        address = int(value.referenced_value().address) if reference else int(value)
        node["pointer"] = str(address)
        if depth > 0 and value.address is None and not reference:
            # gdb 13 dies of an assertion when it follows a pointer that is a part of a value in pieces.
            node["pieced"] = True
            value = gdb.Value(address).cast(plain)
        if not reference and "<synthetic pointer>" in raw_text(value):
            # It leads to a variable that lies nowhere, and whose value is known.
            node["text"] = "<synthetic pointer>"
            node["pointee"] = self.tree(value.dereference(), pointers + 1, depth + 1)
            return
        target = plain.target().strip_typedefs()
        if target.code == gdb.TYPE_CODE_FUNC:
            node["text"] = raw_text(value, symbols=True)
            return
        unit = None if reference else character_size(plain.target())
        if unit is not None and address != 0:
            node["string"] = string_at(address, unit)
        if address != 0 and target.code != gdb.TYPE_CODE_VOID and pointers < LIMIT_POINTERS:
            node["pointee"] = self.tree(value.referenced_value(), pointers + 1, depth + 1)

    def array(self, node, value, plain, pointers, depth):
        low, high = plain.range()
        node["count"] = max(high - low + 1, 0)
        most = min(node["count"], LIMIT_ELEMENTS)
        if character_size(plain.target()) == 1:
            most = min(node["count"], LIMIT_STRING)
            element = plain.target().strip_typedefs()
            if element.code in NUMBERS:
                node["bytes"] = bytes(int(value[low + n]) & 0xFF for n in range(most)).hex()
                return
        node["elements"] = [self.tree(value[low + n], pointers, depth + 1) for n in range(most)]

    def members(self, node, value, plain, pointers, depth):
        node["members"] = []
        for field in plain.fields():
            # Static members have no place in the object.
            if not hasattr(field, "bitpos") or self.left < 0:
                continue
            child = self.tree(value[field], pointers, depth + 1)
            node["members"].append({"name": field.name or "", "base": bool(field.is_base_class), "value": child})

    def contents(self, node, value, pointers, depth):
        shown = {}
        if value.address is None:
            # Printers follow pointers; see above for those in pieces.
            return
        try:
            printer = gdb.default_visualizer(value) or libcxx(value)
        except Exception:  # printers that expect every type to have a name
            return
        if printer is None:
            return
        try:
            text = printer.to_string() if hasattr(printer, "to_string") else None
            if hasattr(text, "lazy_string"):
                text = text.lazy_string()
            if isinstance(text, Raw):
                shown["string"] = text.raw.hex()
            # gdb 13 does not name the class of lazy strings.
            elif text is not None and not isinstance(text, (str, gdb.Value)) and hasattr(text, "length"):
                unit = (text.type.target() if text.type.code == gdb.TYPE_CODE_PTR else text.type).sizeof
                unit = unit if unit in (1, 2, 4) else 1
                length = text.length if text.length >= 0 else text.type.sizeof
                length = min(length, LIMIT_STRING) * unit
                raw = bytes(gdb.selected_inferior().read_memory(text.address, length)) if length > 0 else b""
                shown["string"] = decoded(raw, unit).hex()
            elif isinstance(text, gdb.Value):
                shown["children"] = [{"name": "", "value": self.tree(text, pointers, depth + 1)}]
            elif text is not None:
                shown["text"] = str(text)
                shown["string"] = str(text).encode("utf-8", "replace").hex()
            hint = printer.display_hint() if hasattr(printer, "display_hint") else None
            shown["map"] = hint == "map"
            if hasattr(printer, "children"):
                most = LIMIT_ELEMENTS * (2 if shown["map"] else 1)
                children = list(itertools.islice(printer.children(), most + 1))
                shown["cut"] = len(children) > most
                shown["children"] = [
                    {"name": str(name), "value": self.child(child, pointers, depth)} for name, child in children[:most]
                ]
        except Exception as error:  # whatever a printer raises on a damaged object
            shown = {"failed": str(error)}
        node["contents"] = shown

    def child(self, value, pointers, depth):
        if isinstance(value, gdb.Value):
            return self.tree(value, pointers, depth + 1)
        if isinstance(value, int):
            return {"integer": str(int(value)), "text": str(value)}
        return {"text": str(value), "string": str(value).encode("utf-8", "replace").hex()}


def is_label(symbol, block):
    """A label whose code is gone: gdb's list of locals has it as a variable without a value, DWARF does not."""
    label = gdb.lookup_symbol(symbol.name, block, gdb.SYMBOL_LABEL_DOMAIN)[0]
    return label is not None and label.line == symbol.line


def key_of(block):
    return (block.start, block.end, str(block.function))


def chain_of(block):
    """A block and those around it, up to the function's (an inlined function is one)."""
    chain = [block]
    while block.function is None and block.superblock is not None:
        block = block.superblock
        chain.append(block)
    return chain


BLOCKS = {}


def blocks_of(function):
    """The blocks of a function, by looking at each of its addresses: gdb has no list of them."""
    key = key_of(function)
    if key not in BLOCKS:
        found = {}
        for pc in range(function.start, min(function.end, function.start + LIMIT_CODE)):
            block = gdb.block_for_pc(pc)
            # Functions inlined into this one have blocks of their own; those around a block may be this one's.
            while block is not None and not block.is_global and not block.is_static:
                chain = chain_of(block)
                if key_of(chain[-1]) == key:
                    for inner in chain:
                        found.setdefault(key_of(inner), inner)
                    break
                block = chain[-1].superblock
        BLOCKS[key] = found
    return BLOCKS[key]


def is_abstract(symbol, block):
    """Whether this is the abstract function's variable, of which the function has an instance in another block.

    gdb adds what the abstract function declares and the instance lacks. A block that the instance lacks brings all blocks
    in it along, also those which the instance has, with their own addresses."""
    declared = (symbol.name, symbol.line, str(symbol.symtab))
    return any(
        key != key_of(block) and any((s.name, s.line, str(s.symtab)) == declared for s in other)
        for key, other in blocks_of(chain_of(block)[-1]).items()
    )


def variables_of(frame):
    found = []
    try:
        block = frame.block()
    except RuntimeError:
        return found
    walker = Walker()
    while block is not None and not block.is_global and not block.is_static:
        for symbol in block:
            if not (symbol.is_argument or symbol.is_variable):
                continue
            entry = {"name": symbol.name, "argument": bool(symbol.is_argument), "line": symbol.line}
            try:
                value = symbol.value(frame)
                if value.is_optimized_out:
                    if is_label(symbol, block):
                        continue
                    entry["absent"] = "<optimized out>"
                else:
                    entry["tree"] = walker.tree(value)
                    # gdb 13 dies of an assertion when it prints an array of Rust's enumerations.
                    whole = value.type.strip_typedefs().code in STRUCTURES + REFERENCES + (gdb.TYPE_CODE_ARRAY,)
                    entry["value"] = "{...}" if whole else text_of(value)
            except Exception as error:  # gdb.error, and whatever a pretty-printer raises
                entry["absent"] = str(error)
                entry.pop("tree", None)
            if "absent" in entry and is_abstract(symbol, block):
                entry["abstract"] = True
            found.append(entry)
        if block.function is not None:
            break
        block = block.superblock
    return found


def clobbered(frame, size):
    """Registers that called functions need not keep, as gdb has them in a frame."""
    values = {}
    for name in CLOBBERED.get(size, ()):
        try:
            values[name] = str(int(frame.read_register(name)) % (1 << (8 * size)))
        except (gdb.error, ValueError):
            pass
    return values


class Context:
    """The frames since the innermost one, or since the one that a signal interrupted: only its registers are known."""

    def __init__(self, size):
        self.size = size
        self.first = None
        self.registers = {}

    def stale(self, frame):
        """Which registers of the innermost frame of the context gdb shows in this frame as if they were its own."""
        if frame.type() == gdb.SIGTRAMP_FRAME:
            self.first = None
            return {}
        if self.first is None:
            self.first, self.registers = frame.pc(), clobbered(frame, self.size)
        if frame.pc() == self.first:
            return {}
        here = clobbered(frame, self.size)
        return {name: value for name, value in here.items() if self.registers.get(name) == value}


def frame_entry(frame, context, number):
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
    if with_variables and number < LIMIT_FRAMES:
        # The bounds of arrays of variable length are computed in the selected frame, whatever frame is asked.
        frame.select()
        entry["variables"] = variables_of(frame)
        if number < LIMIT_STALE:
            stale = context.stale(frame)
            if entry["variables"]:
                entry["stale"] = stale
    return entry


def walk(thread):
    thread.switch()
    emit("thread", id=thread.ptid[1] or thread.ptid[0])
    frame, last, count = gdb.newest_frame(), None, 0
    context = Context({"i386:x86-64": 8, "i386": 4}.get(frame.architecture().name(), 0))
    try:
        while frame is not None and count < most_frames:
            emit("frame", **frame_entry(frame, context, count))
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


if with_variables:
    load_printers_of_rust()
for one in sorted(gdb.selected_inferior().threads(), key=lambda t: t.ptid):
    try:
        walk(one)
    except (gdb.error, RuntimeError) as error:
        emit("end", why=str(error))
emit("done")
out.close()
