//! A QEMU guest without hardware help: its console in a file, drives on which it hands files out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of each drive; a sparse file.
const DRIVE: u64 = 768 << 20;

/// What to start.
pub struct Guest<'g> {
    pub kernel: &'g Path,
    pub initramfs: &'g Path,
    pub memory: u32,
    pub command_line: &'g str,
    /// Where the console and the drives lie.
    pub folder: &'g Path,
    pub drives: usize,
}

impl Guest<'_> {
    fn console(&self) -> PathBuf {
        self.folder.join("console")
    }

    fn drive(&self, index: usize) -> PathBuf {
        self.folder.join(format!("drive.{index}"))
    }

    /// Runs it until it switches itself off; the console.
    pub fn run(&self, at_most: Duration) -> Result<String, String> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m"]);
        command.arg(self.memory.to_string()).arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        command.args(["-append", self.command_line, "-nodefaults", "-display", "none", "-no-reboot", "-serial"]);
        command.arg(format!("file:{}", self.console().display()));
        for index in 0..self.drives {
            let path = self.drive(index);
            let file = std::fs::File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            file.set_len(DRIVE).map_err(|e| format!("{}: {e}", path.display()))?;
            command.arg("-drive").arg(format!("file={},format=raw,if=none,id=d{index}", path.display()));
            command.arg("-device").arg(format!("virtio-blk-pci,drive=d{index}"));
        }
        let _ = std::fs::remove_file(self.console());
        let mut child = command.stdin(Stdio::null()).spawn().map_err(|e| format!("qemu-system-x86_64: {e}"))?;
        let ended = self.wait(&mut child, at_most);
        let bytes = std::fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&bytes).replace('\r', "");
        match ended {
            Ok(()) => Ok(console),
            Err(why) => {
                let tail: Vec<&str> = console.lines().rev().take(25).collect();
                Err(format!("{why}; the console ends so:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n")))
            }
        }
    }

    fn wait(&self, child: &mut Child, at_most: Duration) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match child.try_wait().map_err(|e| format!("qemu-system-x86_64: {e}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("qemu-system-x86_64: {status}")),
                None if begun.elapsed() > at_most => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("the guest did not end in {} s", at_most.as_secs()));
                }
                None => std::thread::sleep(Duration::from_millis(250)),
            }
        }
    }

    /// The file that the guest handed out on a drive, in the drive's place; its console says how long it is.
    pub fn handed_out(&self, console: &str, index: usize) -> Result<PathBuf, String> {
        let letter = char::from(b"abcdefgh"[index]);
        let said = console.lines().rev().find_map(|l| l.trim().strip_prefix(&format!("guest: put vd{letter} ")));
        let length: u64 = said
            .and_then(|n| n.trim().parse().ok())
            .ok_or_else(|| format!("the guest handed nothing out on drive {index}"))?;
        let path = self.drive(index);
        let file =
            std::fs::OpenOptions::new().write(true).open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        file.set_len(length).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}
