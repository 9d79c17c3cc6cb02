//! Programs attached to the cgroup by links, which are pinned.

use crate::Missing;
use crate::bpf;
use crate::cgroup::Cgroup;
use crate::pins::Pins;
use aya_obj::generated::bpf_attach_type;
use relay_ebpf_abi::map::program;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Programs without which nothing is promised, and where each is attached. In the order in which they take effect: from the
/// first connect that is refused on, tags can be given.
pub(crate) const REQUIRED: [(&str, bpf_attach_type); 4] = [
    (
        program::RELEASE,
        bpf_attach_type::BPF_CGROUP_INET_SOCK_RELEASE,
    ),
    (program::SET_OPTION, bpf_attach_type::BPF_CGROUP_SETSOCKOPT),
    (program::CONNECT4, bpf_attach_type::BPF_CGROUP_INET4_CONNECT),
    (program::CONNECT6, bpf_attach_type::BPF_CGROUP_INET6_CONNECT),
];

/// The program that sees connections being established.
pub(crate) const SOCK_OPS: (&str, bpf_attach_type) =
    (program::SOCK_OPS, bpf_attach_type::BPF_CGROUP_SOCK_OPS);

/// What the names of a gateway's programs begin with.
const NAMES_BEGIN_WITH: &[u8] = b"relay_";

/// A link goes a moment after its last pin or descriptor: until then programs that were just detached are still there.
const DETACHED_WITHIN: Duration = Duration::from_secs(2);
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Refuses a cgroup that the programs of another gateway govern too, which are pinned elsewhere: each kind has its own maps, so
/// that no connection would have a tag for both. Those that `pins` have are replaced, or removed in the end.
pub(crate) fn check_no_others(cgroup: &Cgroup, pins: &[&Pins]) -> Result<(), Missing> {
    let own = own_programs(pins)?;
    let deadline = Instant::now() + DETACHED_WITHIN;
    loop {
        let found = another_gateways(cgroup, &own).map_err(|error| Missing {
            piece: "link",
            detail: format!(
                "cannot ask what is attached to {}: {error}",
                cgroup.path().display()
            ),
        })?;
        let Some(name) = found else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(Missing {
                piece: "link",
                detail: format!(
                    "programs of another gateway ({name}), pinned elsewhere, are attached to {} or to a group above it; run \
                     codex-relay kernel detach with the configuration that pinned them, or remove that group while it is empty",
                    cgroup.path().display()
                ),
            });
        }
        std::thread::sleep(ASKED_AGAIN_AFTER);
    }
}

/// The programs of pinned links.
fn own_programs(pins: &[&Pins]) -> Result<Vec<u32>, Missing> {
    let mut programs = Vec::new();
    for pins in pins {
        let links = pins.links()?.into_iter();
        // What cannot be opened, or is no link, is replaced.
        let infos = links.filter_map(|name| {
            let link = bpf::open_pinned(&pins.link(&name)).ok()?;
            bpf::link_info(link.as_fd()).ok()
        });
        programs.extend(infos.map(|info| info.program_id));
    }
    Ok(programs)
}

/// The name of a program of a gateway that is none of `own`.
fn another_gateways(cgroup: &Cgroup, own: &[u32]) -> io::Result<Option<String>> {
    for (_, attach_type) in REQUIRED.into_iter().chain([SOCK_OPS]) {
        let programs = bpf::programs_of(cgroup.descriptor(), attach_type as u32)?;
        for id in programs.into_iter().filter(|id| !own.contains(id)) {
            // It has gone meanwhile, or its name is kept from this process, and it may be anybody's.
            let Ok(name) = bpf::program_name(id) else {
                continue;
            };
            if name.starts_with(NAMES_BEGIN_WITH) {
                let name = String::from_utf8_lossy(&name);
                return Ok(Some(name.trim_end_matches('\0').to_owned()));
            }
        }
    }
    Ok(None)
}

/// Links that are in force as long as this process refers to them, whatever becomes of their pins.
pub(crate) struct Links {
    cgroup_id: u64,
    held: Vec<(&'static str, OwnedFd)>,
}

impl Links {
    /// None yet.
    pub(crate) fn of(cgroup: &Cgroup) -> Self {
        Self {
            cgroup_id: cgroup.id(),
            held: Vec::new(),
        }
    }

    /// Refers to one from now on.
    pub(crate) fn hold(&mut self, name: &'static str, link: OwnedFd) {
        self.held.push((name, link));
    }

    /// Whether each is attached to the cgroup still: one that goes with a cgroup, or by force, goes without a word.
    pub(crate) fn check(&self) -> Result<(), Missing> {
        let lost = self.held.iter().find_map(|(name, link)| {
            let detail = match bpf::link_info(link.as_fd()) {
                Ok(info) if info.cgroup_id == self.cgroup_id => return None,
                Ok(_) => format!("{name} is not attached to the gateway's cgroup any more; start the gateway again"),
                Err(error) => format!("cannot look at the link of {name}: {error}"),
            };
            Some(detail)
        });
        lost.map_or(Ok(()), |detail| {
            Err(Missing {
                piece: "canary",
                detail,
            })
        })
    }
}

/// Links that were made; taken back if the whole does not come about.
#[derive(Default)]
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Attaches a program, in the place of the one that is pinned if that still does something here. The link is pinned, so
    /// that it outlives the process.
    pub(crate) fn attach(
        &mut self,
        pins: &Pins,
        cgroup: &Cgroup,
        (name, attach_type): (&str, bpf_attach_type),
        program: BorrowedFd<'_>,
    ) -> Result<OwnedFd, Missing> {
        let cannot = |verb: &str, error: &io::Error| Missing {
            piece: "link",
            detail: format!(
                "cannot {verb} {name} to {}: {error}",
                cgroup.path().display()
            ),
        };
        let path = pins.link(name);
        if let Ok(link) = bpf::open_pinned(&path) {
            if replace(&link, cgroup, attach_type, program) {
                return Ok(link);
            }
            fs::remove_file(&path)
                .map_err(|error| cannot("detach what was attached as", &error))?;
        }
        let link = bpf::attach(program, cgroup.descriptor(), attach_type as u32)
            .map_err(|error| cannot("attach", &error))?;
        bpf::pin(link.as_fd(), &path).map_err(|error| cannot("pin", &error))?;
        self.0.push(path);
        Ok(link)
    }

    /// Detaches what was attached by this.
    pub(crate) fn undo(self) {
        for path in self.0 {
            // What cannot be removed now is replaced or removed by the next one.
            let _ = fs::remove_file(path);
        }
    }
}

/// Replaces the program of a link, if the link belongs to the cgroup and the kind.
fn replace(
    link: &OwnedFd,
    cgroup: &Cgroup,
    attach_type: bpf_attach_type,
    program: BorrowedFd<'_>,
) -> bool {
    let is_ours = bpf::link_info(link.as_fd())
        .is_ok_and(|info| info.cgroup_id == cgroup.id() && info.attach_type == attach_type as u32);
    is_ours && bpf::replace_program(link.as_fd(), program).is_ok()
}
