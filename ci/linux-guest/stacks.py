# What drgn says of every task: `drgn -q -c DUMP -s VMLINUX ci/linux-guest/stacks.py > NAME.stacks.tsv`. A line is a task's pid, its
# name, and the address and the function of each frame that is no inlined call.
from drgn.helpers.linux import cpu_curr, for_each_online_cpu, for_each_task, idle_task

tasks = [idle_task(prog, cpu) for cpu in for_each_online_cpu(prog)] + list(for_each_task(prog))
for task in tasks:
    frames = []
    for frame in prog.stack_trace(task):
        if not frame.is_inline:
            frames.append(f"{frame.pc:x} {frame.name or '?'}")
    print(task.pid.value_(), task.comm.string_().decode(), *frames, sep="\t")
