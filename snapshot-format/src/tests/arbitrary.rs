//! Any snapshot survives.

use proptest::prelude::*;

use super::round_trip::check;
use crate::schema::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,2}", "\\PC{0,12}"]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..3u64, Just(u64::MAX)]
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    proptest::option::of(strategy)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn list<S: Strategy>(strategy: S) -> impl Strategy<Value = Vec<S::Value>> {
    proptest::collection::vec(strategy, 0..12)
}

prop_compose! {
    fn identity()(texts in proptest::array::uniform3(text()), big_endian: bool, numbers in proptest::array::uniform3(maybe(number())),
        more in proptest::array::uniform5(maybe(text()))) -> Identity {
        let ([origin, os, arch], [pid, parent_pid, taken_at_ns]) = (texts, numbers);
        let [command, arguments, executable, host, release] = more;
        Identity { origin, os, arch, big_endian, pid, parent_pid, command, arguments, executable, host, release, taken_at_ns }
    }
}

prop_compose! {
    fn event()(numbers in proptest::array::uniform6(maybe(number())), signal: Option<i64>, code: Option<i64>,
        texts in proptest::array::uniform4(maybe(text()))) -> Event {
        let [thread, address, sender_pid, sender_uid, trap_number, error_code] = numbers;
        let [signal_name, code_name, access, message] = texts;
        Event { thread, signal, signal_name, code, code_name, address, access, sender_pid, sender_uid, message, trap_number, error_code }
    }
}

prop_compose! {
    fn thread(stacks: u32)(id in number(), numbers in proptest::array::uniform6(maybe(number())),
        texts in proptest::array::uniform4(maybe(text())), faulting: bool, context in text(), stack in 0..=stacks) -> Thread {
        let [process, system_call, cpu, stack_start, stack_end, signal_mask] = numbers;
        let [name, state, wait_channel, truncated] = texts;
        let stack = (stack < stacks).then_some(stack);
        Thread { id, process, name, faulting, state, wait_channel, system_call, context, cpu, stack, truncated, stack_start, stack_end, signal_mask }
    }
}

prop_compose! {
    fn frame(modules: u32)(pc in number(), texts in proptest::array::uniform3(maybe(text())),
        numbers in proptest::array::uniform4(maybe(number())), flags: [bool; 3], module in 0..=modules, trust in 0..Trust::ALL.len()) -> Frame {
        let [function, linkage_name, file] = texts.map(|t| t.map(Into::into));
        let [offset, module_offset, line, column] = numbers;
        let [inline, suspect, signal_frame] = flags;
        let module = (module < modules).then_some(module);
        Frame { pc, function, linkage_name, offset, module, module_offset, file, line, column, inline, trust: Trust::ALL[trust], suspect, signal_frame }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::None),
        any::<i64>().prop_map(Value::Signed),
        any::<u64>().prop_map(Value::Unsigned),
        (-1e300..1e300).prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
        number().prop_map(Value::Pointer),
        text().prop_map(Value::Text),
    ]
}

prop_compose! {
    fn variable()(thread in maybe(number()), frame: Option<u32>, parent: Option<u32>, texts in proptest::array::uniform2(text()),
        kind in 0..5usize, value in value(), address in maybe(number()), absent in maybe(text()), truncated: bool,
        line in maybe(number())) -> Variable {
        let ([name, type_name], absent) = (texts.map(Into::into), absent.map(Into::into));
        Variable { thread, frame, parent, name, type_name, kind: VariableKind::ALL[kind], value, address, absent, truncated, line }
    }
}

prop_compose! {
    fn module()(path in text(), build_id in maybe(bytes()), places in proptest::array::uniform3(number()), symbols in text(),
        more in proptest::array::uniform2(maybe(text()))) -> Module {
        let ([base, size, slide], [symbol_file, problem]) = (places, more);
        Module { path, build_id, base, size, slide, symbols, symbol_file, problem }
    }
}

prop_compose! {
    fn extent()(space in number(), address in number(), length in number(), bytes in bytes(), absent in maybe(text())) -> MemoryExtent {
        let length = length.min(u64::MAX - address);
        MemoryExtent { space, address, length, bytes, absent }
    }
}

prop_compose! {
    fn task()(id in number(), numbers in proptest::array::uniform5(maybe(number())), texts in proptest::array::uniform2(maybe(text()))) -> Task {
        let ([pid, parent_pid, address, cpu, resident], [name, state]) = (numbers, texts);
        Task { id, pid, parent_pid, address, name, state, cpu, resident, stack: None }
    }
}

prop_compose! {
    fn stacks()(modules in list(module()), frames in list(frame(12)), cuts in list((0..=12usize, 0..=12usize)),
        threads in list(thread(12))) -> Snapshot {
        let total = frames.len();
        let stack = |(a, b): (usize, usize)| {
            let (a, b) = (a.min(total), b.min(total));
            let count = a.abs_diff(b) as u32;
            Stack { first: if count == 0 { 0 } else { a.min(b) as u32 }, count }
        };
        let stacks: Vec<Stack> = cuts.into_iter().map(stack).collect();
        let (mut frames, mut threads) = (frames, threads);
        frames.iter_mut().for_each(|frame| frame.module = frame.module.filter(|module| (*module as usize) < modules.len()));
        threads.iter_mut().for_each(|thread| thread.stack = thread.stack.filter(|stack| (*stack as usize) < stacks.len()));
        Snapshot { stacks, threads, frames, modules, ..Snapshot::default() }
    }
}

prop_compose! {
    fn facts()(identity in identity(), event in maybe(event()),
        attributes in list((text(), maybe(number()), text())), registers in list((number(), any::<u32>(), text(), number())),
        mappings in list((number(), number(), text(), number(), maybe(text()), any::<bool>())), memory in list(extent()),
        tasks in list(task()), log in list((maybe(number()), maybe(text()), text())),
        notes in list((text(), number(), maybe(number()), bytes())), files in list((number(), text(), maybe(number()), maybe(number()))),
        attachments in list((text(), bytes()))) -> Snapshot {
        Snapshot {
            identity, event, memory, tasks,
            attributes: attributes.into_iter().map(|(key, thread, value)| Attribute { key, thread, value }).collect(),
            registers: registers.into_iter().map(|(thread, frame, name, value)| RegisterValue { thread, frame, name, value }).collect(),
            mappings: mappings.into_iter().map(|(start, end, protection, file_offset, path, deleted)| {
                Mapping { start, end, protection, file_offset, path, deleted }
            }).collect(),
            log: log.into_iter().map(|(time_ns, level, text)| LogRecord { time_ns, level, text }).collect(),
            notes: notes.into_iter().map(|(owner, kind, thread, body)| Note { owner, kind, thread, body }).collect(),
            files: files.into_iter().map(|(descriptor, target, flags, position)| File { descriptor, target, flags, position }).collect(),
            attachments: attachments.into_iter().map(|(name, body)| Attachment { name, body }).collect(),
            ..Snapshot::default()
        }
    }
}

prop_compose! {
    fn verdicts()(findings in list((proptest::array::uniform4(text()), 0.0..1.0f64, maybe(number()), any::<Option<u32>>())),
        evidence in list((any::<prop::sample::Index>(), any::<bool>(), text())), variables in list(variable()),
        fingerprint in maybe((text(), list(text()))), doubts in list((text(), maybe(number()), text()))) -> Snapshot {
        let finding = |([class, severity, security, text], confidence, thread, frame): ([String; 4], f64, Option<u64>, Option<u32>)| {
            Finding { class, severity, security, confidence, thread, frame, text }
        };
        let findings: Vec<_> = findings.into_iter().map(finding).collect();
        let mut variables = variables;
        for (row, variable) in (0u32..).zip(&mut variables) {
            variable.parent = variable.parent.and_then(|parent| parent.checked_rem(row));
        }
        let found = findings.len();
        Snapshot {
            evidence: evidence.into_iter().filter(|_| found > 0)
                .map(|(at, counter, text)| Evidence { finding: at.index(found) as u32, counter, text }).collect(),
            findings, variables,
            fingerprint: fingerprint.map(|(value, frames)| Fingerprint { value, frames }),
            doubts: doubts.into_iter().map(|(what, address, why)| Doubt { what, address, why }).collect(),
            ..Snapshot::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_snapshot_survives(stacks in stacks(), facts in facts(), verdicts in verdicts()) {
        let Snapshot { stacks, threads, frames, modules, .. } = stacks;
        let Snapshot { findings, evidence, variables, fingerprint, doubts, .. } = verdicts;
        check(&Snapshot { stacks, threads, frames, modules, findings, evidence, variables, fingerprint, doubts, ..facts });
    }
}
