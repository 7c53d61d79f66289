//! Files by build-id from debuginfod servers (`GET /buildid/ID/debuginfo`, debuginfod(8)), kept in a cache folder.
//!
//! Only asked when the user said so; what arrives is verified by build-id before it is used or kept.

use super::Locator;
use crate::BuildId;
use crate::elf::ElfFile;
use crate::images::Outcome;
use evidence::{Doubt, Doubts};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Largest file accepted: twice the size of Chromium's debug file.
const LIMIT_DOWNLOAD: u64 = 8 << 30;
/// How long a server may take to answer at all; federated ones ask others first.
const LIMIT_ANSWER: Duration = Duration::from_secs(30);
/// How long one download may take.
const LIMIT_TRANSFER: Duration = Duration::from_secs(600);
/// Most servers asked.
const LIMIT_SERVERS: usize = 16;

/// What a server can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Artefact {
    /// A separate debug file.
    DebugInfo,
    /// The image itself.
    Executable,
}

impl Artefact {
    const fn word(self) -> &'static str {
        match self {
            Self::DebugInfo => "debuginfo",
            Self::Executable => "executable",
        }
    }
}

/// Asks the cache, then the servers, for a file.
pub(crate) fn fetch(
    locator: &Locator,
    id: &BuildId,
    artefact: Artefact,
    searched: &mut Vec<(PathBuf, Outcome)>,
    doubts: &Doubts,
) -> Option<ElfFile> {
    if locator.debuginfod.is_empty() {
        return None;
    }
    let folder = locator.cache.clone().or_else(crate::Cache::users_folder)?.join("debuginfod").join(id.to_string());
    let kept = folder.join(artefact.word());
    if let Some(file) = verified(&kept, id) {
        searched.push((kept, Outcome::Used));
        return Some(file);
    }
    for server in locator.debuginfod.iter().take(LIMIT_SERVERS) {
        let url = format!("{}/buildid/{id}/{}", server.trim_end_matches('/'), artefact.word());
        let outcome = match download(&url, &folder, &kept) {
            Ok(true) => match verified(&kept, id) {
                Some(file) => {
                    searched.push((url.into(), Outcome::Used));
                    return Some(file);
                }
                None => {
                    let _ = std::fs::remove_file(&kept);
                    Outcome::Mismatch { expected: Some(id.clone()), found: "a file of another build-id".into() }
                }
            },
            Ok(false) => Outcome::Missing,
            Err(why) => {
                doubts.push(Doubt::new("debuginfod", format!("{url}: {why}")));
                Outcome::Unusable(why)
            }
        };
        searched.push((url.into(), outcome));
    }
    None
}

fn verified(path: &Path, id: &BuildId) -> Option<ElfFile> {
    ElfFile::open(path).ok().filter(|f| f.build_id() == Some(id))
}

/// Downloads to `kept`, by way of a temporary file in the same folder; `false` when the server has no such file.
pub(super) fn download(url: &str, folder: &Path, kept: &Path) -> Result<bool, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_recv_response(Some(LIMIT_ANSWER))
        .timeout_connect(Some(LIMIT_ANSWER))
        .timeout_global(Some(LIMIT_TRANSFER))
        .user_agent(concat!("postfault/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut answer = match agent.get(url).call() {
        Ok(answer) => answer,
        Err(ureq::Error::StatusCode(404)) => return Ok(false),
        Err(e) => return Err(e.to_string()),
    };
    let io = |e: io::Error| format!("{}: {e}", kept.display());
    std::fs::create_dir_all(folder).map_err(io)?;
    let part = folder.join(format!(".{}.part", std::process::id()));
    let copied = (|| {
        let mut file = std::fs::File::create(&part).map_err(io)?;
        let mut body = answer.body_mut().with_config().limit(LIMIT_DOWNLOAD).reader();
        io::copy(&mut body, &mut file).map_err(|e| e.to_string())?;
        file.flush().map_err(io)?;
        std::fs::rename(&part, kept).map_err(io)
    })();
    if copied.is_err() {
        // Nothing is left behind; that it cannot be removed changes nothing for us.
        let _ = std::fs::remove_file(&part);
    }
    copied.map(|()| true)
}
