//! Where the members of a made kernel's structures lie, in two ways.

/// Where the members of the structures lie.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the members' names")]
pub struct Layout {
    pub p_list: u64,
    pub p_pid: u64,
    pub p_comm: u64,
    pub p_threads: u64,
    pub p_pptr: u64,
    pub p_hash: u64,
    pub td_plist: u64,
    pub td_tid: u64,
    pub td_name: u64,
    pub td_oncpu: u64,
    pub td_pcb: u64,
    pub td_state: u64,
    pub td_inhibitors: u64,
    pub td_wmesg: u64,
    pub td_kstack: u64,
    pub td_kstack_pages: u64,
    pub pcb_size: u64,
    pub kld_address: u64,
    pub kld_filename: u64,
    pub kld_pathname: u64,
    pub kld_next: u64,
    pub kld_size: u64,
    /// The first value of `enum td_states`.
    pub first_state: i32,
    /// `osreldate`: before 1400084, arm64's pcb holds 30 registers, from then on 12.
    pub osreldate: u32,
}

/// As a kernel of 13 has them, about.
#[must_use]
pub fn first_layout() -> Layout {
    Layout {
        p_list: 0,
        p_threads: 16,
        p_pid: 196,
        p_hash: 200,
        p_pptr: 216,
        p_comm: 984,
        td_plist: 16,
        td_tid: 160,
        td_name: 700,
        td_oncpu: 1724,
        td_pcb: 1080,
        td_state: 880,
        td_inhibitors: 884,
        td_wmesg: 1016,
        td_kstack: 1088,
        td_kstack_pages: 1096,
        pcb_size: 320,
        kld_next: 24,
        kld_filename: 40,
        kld_pathname: 48,
        kld_address: 64,
        kld_size: 72,
        first_state: 0,
        osreldate: 1_302_001,
    }
}

/// Quite another one.
#[must_use]
pub fn second_layout() -> Layout {
    Layout {
        p_list: 8,
        p_threads: 40,
        p_pid: 100,
        p_hash: 120,
        p_pptr: 300,
        p_comm: 500,
        td_plist: 72,
        td_tid: 300,
        td_name: 320,
        td_oncpu: 400,
        td_pcb: 408,
        td_state: 416,
        td_inhibitors: 424,
        td_wmesg: 432,
        td_kstack: 448,
        td_kstack_pages: 456,
        pcb_size: 512,
        kld_next: 48,
        kld_filename: 8,
        kld_pathname: 16,
        kld_address: 80,
        kld_size: 96,
        first_state: 5,
        osreldate: 1_401_000,
    }
}
