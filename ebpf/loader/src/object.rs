//! The object with the programs: its maps, pinned or opened again, and its programs, loaded.

use crate::Missing;
use crate::bpf;
use crate::pins::Pins;
use aya::maps::{MapData, RingBuf};
use aya::programs::Program;
use aya::{Btf, Ebpf, EbpfLoader};
use aya_obj::{EbpfSectionKind, Object};
use relay_ebpf_abi::map;
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The programs, built by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../relay.bpf.o");

/// Characters of what the verifier or the kernel says that are passed on: the end of it has the reason.
const REASON_CHARACTERS_MAX: usize = 400;

/// The shape of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
}

/// The object with its maps in the kernel.
pub(crate) struct Loaded {
    object: Ebpf,
    /// Whether the maps were there before, with what they held.
    pub(crate) is_reopened: bool,
}

impl Loaded {
    /// Opens the pinned maps if all of them have the shape that this build wants, and makes them anew otherwise.
    pub(crate) fn load(pins: &Pins) -> Result<Self, Missing> {
        let shapes = shapes().map_err(|error| cannot("parse the object", &error))?;
        let is_reopened = are_pinned(pins, &shapes);
        if !is_reopened {
            pins.remove()
                .map_err(|error| cannot("remove pins of another shape", &error))?;
        }
        let mut loader = EbpfLoader::new();
        // The programs have nothing to relocate by the kernel's own types; one of them needs these later.
        loader.btf(None);
        for (name, _) in &shapes {
            loader.map_pin_path(name, pins.map(name));
        }
        let object = loader
            .load(OBJECT)
            .map_err(|error| cannot("make the maps", &error))?;
        Ok(Self {
            object,
            is_reopened,
        })
    }

    /// Loads one of the programs.
    pub(crate) fn program(&mut self, name: &str) -> Result<OwnedFd, Missing> {
        let cannot = |error: &dyn Display| Missing {
            piece: "program",
            detail: format!(
                "the kernel does not load {name}: {}; Linux 6.1 or newer is needed",
                one_line(&error.to_string())
            ),
        };
        let Some(program) = self.object.program_mut(name) else {
            return Err(cannot(&"the object does not have it"));
        };
        let loaded = match program {
            Program::CgroupSockopt(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::SockOps(program) => program.load(),
            Program::SkReuseport(program) => program.load(),
            Program::Iter(program) => {
                let types = Btf::from_sys_fs().map_err(|error| cannot(&chain(&error)))?;
                program.load("bpf_sk_storage_map", &types)
            }
            _ => return Err(cannot(&"it is of a kind that nobody knows")),
        };
        loaded.map_err(|error| cannot(&chain(&error)))?;
        let descriptor = program.fd().map_err(|error| cannot(&error))?;
        descriptor
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| cannot(&error))
    }

    /// The ring of events, which can be taken once.
    pub(crate) fn events(&mut self) -> Result<RingBuf<MapData>, Missing> {
        let cannot = |reason: &str| Missing {
            piece: "map",
            detail: format!("cannot map {}: {reason}", map::EVENTS),
        };
        let ring = self.object.take_map(map::EVENTS);
        let ring = ring.ok_or_else(|| cannot("the object does not have it"))?;
        RingBuf::try_from(ring).map_err(|error| cannot(&one_line(&chain(&error))))
    }
}

/// Names and shapes of the maps that are pinned.
fn shapes() -> io::Result<Vec<(String, Shape)>> {
    let object = Object::parse(OBJECT).map_err(io::Error::other)?;
    let maps = object.maps.iter().filter(|(_, map)| {
        matches!(
            map.section_kind(),
            EbpfSectionKind::Maps | EbpfSectionKind::BtfMaps
        )
    });
    Ok(maps
        .map(|(name, map)| {
            let shape = Shape {
                kind: map.map_type(),
                key_bytes: map.key_size(),
                value_bytes: map.value_size(),
                entries_max: map.max_entries(),
                flags: map.map_flags(),
            };
            (name.clone(), shape)
        })
        .collect())
}

/// Whether each map is pinned with its shape.
fn are_pinned(pins: &Pins, shapes: &[(String, Shape)]) -> bool {
    shapes.iter().all(|(name, shape)| {
        let info = bpf::open_pinned(&pins.map(name)).and_then(|map| bpf::map_info(map.as_fd()));
        info.is_ok_and(|info| {
            *shape
                == Shape {
                    kind: info.kind,
                    key_bytes: info.key_bytes,
                    value_bytes: info.value_bytes,
                    entries_max: info.entries_max,
                    flags: info.flags,
                }
        })
    })
}

fn cannot(verb: &str, error: &(dyn std::error::Error + 'static)) -> Missing {
    Missing {
        piece: "map",
        detail: format!("cannot {verb}: {}", one_line(&chain(error))),
    }
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The end of a text in one line.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().rev().nth(REASON_CHARACTERS_MAX) {
        Some((at, _)) => format!("…{}", &line[at..]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_ebpf_abi::map::program;

    #[test]
    fn a_reason_is_one_line_and_keeps_its_end() {
        assert_eq!(one_line("a\n  b\tc\n"), "a b c");
        let long = format!("{}\nR1 invalid mem access", "é".repeat(1000));
        let line = one_line(&long);
        assert!(line.starts_with('…') && line.ends_with("R1 invalid mem access"));
        assert_eq!(line.chars().count(), REASON_CHARACTERS_MAX + 2);
    }

    #[test]
    fn the_object_has_all_maps_and_programs() {
        let object = Object::parse(OBJECT).expect("an object");
        let programs = [
            program::SET_OPTION,
            program::CONNECT4,
            program::CONNECT6,
            program::RELEASE,
            program::SOCK_OPS,
            program::STEER,
            program::LIST,
        ];
        for name in programs {
            assert!(object.programs.contains_key(name), "program {name}");
        }
        let shapes = shapes().expect("shapes");
        let maps = [
            map::SETTINGS,
            map::TENANTS,
            map::ACCOUNTS,
            map::ADDRESSES,
            map::IP_OWNER,
            map::NETWORKS,
            map::CONTROL,
            map::LISTENERS,
            map::LISTENER_SOCKETS,
            map::PATHS_WAITING,
            map::LEASE,
            map::TENANTS_INBOUND,
            map::TENANTS_UPSTREAM,
            map::ACCOUNTS_UPSTREAM,
            map::ADDRESSES_UPSTREAM,
            map::WORKERS_INBOUND,
            map::COUNTERS,
            map::TURNS,
            map::SOURCES,
            map::PATHS,
            map::SOCKETS,
            map::EVENTS,
        ];
        for name in maps {
            let is_there = shapes.iter().any(|(shape, _)| shape == name);
            assert!(is_there, "map {name}");
        }
        assert_eq!(shapes.len(), maps.len(), "no map beyond those: {shapes:?}");
    }
}
