//! The images of running programs are what `/proc/PID/maps` and readelf say they are.
mod common;

use debuginfo::images::Verified;
use debuginfo::{Locator, Modules};
use evidence::{Addr, Doubts};

#[test]
fn own_images_are_found_and_verified_by_build_id() {
    let (target, memory) = common::target(std::process::id());
    let doubts = Doubts::new();
    let modules = Modules::outline(&target, &memory, &Locator::default(), &doubts);
    let own: fn() = own_images_are_found_and_verified_by_build_id;
    let (_, me) = modules.find(Addr(own as usize as u64)).expect("this function lies in an image");
    assert_eq!(Some(&*me.path), target.identity.executable.as_deref());
    assert!(me.main().is_some());
    let libc = modules.list().iter().find(|m| m.path.ends_with("libc.so.6")).expect("libc is loaded");
    assert_eq!(libc.verified(), Verified::BuildId);
    let vdso = modules.list().iter().find(|m| &*m.path == "[vdso]").expect("the kernel maps a vDSO");
    assert_eq!(vdso.verified(), Verified::Memory);
    assert!(vdso.build_id.is_some() && vdso.main().is_some_and(|f| f.section(".eh_frame").is_some()));
    for module in modules.list().iter().filter(|m| &*m.path != "[vdso]") {
        let mapped: Vec<_> = target.mappings.iter().filter(|m| m.path.as_deref() == Some(&*module.path)).collect();
        assert_eq!(module.base, mapped[0].range.start, "{}", module.path);
        assert!(mapped.iter().all(|m| module.range().contains(&m.range.start)), "{}", module.path);
    }
    assert_eq!(doubts.into_sorted(), vec![]);
}
