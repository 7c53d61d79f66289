//! `siginfo_t` of 64-bit and 32-bit Linux (`include/uapi/asm-generic/siginfo.h`): 128 bytes, a head of three 32-bit
//! numbers, and a union whose meaning follows from the signal and its code.

use evidence::bytes::{Endian, i32_at, u32_at, u64_at};
use evidence::{Addr, Signal};

/// Signals whose `siginfo_t` carries a fault address when the kernel sent them: SIGILL, SIGTRAP, SIGBUS, SIGFPE,
/// SIGSEGV.
const WITH_ADDRESS: [i32; 5] = [4, 5, 7, 8, 11];
/// `SI_KERNEL`: sent by the kernel without a reason; the union is zero and means nothing, for instance after the
/// general protection fault of a non-canonical address.
const SI_KERNEL: i32 = 0x80;
/// `SI_TIMER`: the union holds a timer.
const SI_TIMER: i32 = -2;
const SIGCHLD: i32 = 17;
const SIGPOLL: i32 = 29;
const SIGSYS: i32 = 31;

/// Decodes a `siginfo_t`. `pointer_size` is the target's: the union starts at 16 on 64-bit systems, at 12 on others.
///
/// `si_addr` is given for faults only, and `si_pid`/`si_uid` for signals that someone sent and for SIGCHLD: elsewhere the
/// same bytes mean something else.
#[must_use]
pub fn decode(bytes: &[u8], pointer_size: u8) -> Option<Signal> {
    let wide = pointer_size == 8;
    let union = if wide { 16 } else { 12 };
    let number = i32_at(bytes, 0, Endian::Little)?;
    let errno = i32_at(bytes, 4, Endian::Little)?;
    let code = i32_at(bytes, 8, Endian::Little)?;
    if number == 0 {
        return None;
    }
    let faulted = code > 0 && code != SI_KERNEL && WITH_ADDRESS.contains(&number);
    let address = if faulted {
        if wide { u64_at(bytes, union, Endian::Little) } else { u32_at(bytes, union, Endian::Little).map(u64::from) }
    } else {
        None
    };
    let sent = (code <= 0 && code != SI_TIMER && number != SIGPOLL && number != SIGSYS)
        || (number == SIGCHLD && code != SI_KERNEL);
    let second = union.checked_add(4)?;
    let (pid, uid) =
        if sent { (u32_at(bytes, union, Endian::Little), u32_at(bytes, second, Endian::Little)) } else { (None, None) };
    Some(Signal {
        number,
        code: Some(code),
        errno: Some(errno),
        address: address.map(Addr),
        sender_pid: pid.map(u64::from),
        sender_uid: uid.map(u64::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(number: i32, code: i32, union: u64) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        bytes[8..12].copy_from_slice(&code.to_le_bytes());
        bytes[16..24].copy_from_slice(&union.to_le_bytes());
        bytes
    }

    #[test]
    fn faults_have_an_address_and_no_sender() {
        let fault = decode(&info(11, 1, 0x28), 8).unwrap();
        assert_eq!((fault.address, fault.sender_pid), (Some(Addr(0x28)), None));
        assert_eq!(decode(&info(11, SI_KERNEL, 0), 8).unwrap().address, None);
    }

    #[test]
    fn sent_signals_have_a_sender_and_no_address() {
        let sent = decode(&info(11, 0, 7 << 32 | 42), 8).unwrap();
        assert_eq!((sent.address, sent.sender_pid, sent.sender_uid), (None, Some(42), Some(7)));
        assert_eq!(decode(&info(14, SI_TIMER, 5), 8).unwrap().sender_pid, None);
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..140)) {
            let _ = decode(&bytes, 8);
            let _ = decode(&bytes, 4);
        }
    }
}
