//! The list of all sockets that have a state, from the kernel.

use crate::Missing;
use crate::bpf;
use crate::bytes::Bytes;
use crate::object::Loaded;
use crate::pins::Pins;
use aya_obj::generated::bpf_attach_type::BPF_TRACE_ITER;
use relay_ebpf_abi::map;
use relay_ebpf_abi::record::SocketState;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Bytes that are read at a time: as many as the kernel prepares.
const READ_BYTES: usize = 32 * 1024;

/// Lists sockets. Needs no capability once it is made.
#[derive(Clone, Debug)]
pub(crate) struct SocketList {
    iterator: Arc<OwnedFd>,
}

impl SocketList {
    pub(crate) fn make(loaded: &mut Loaded, pins: &Pins) -> Result<Self, Missing> {
        let program = loaded.program(map::program::LIST)?;
        let attach = || {
            let sockets = bpf::open_pinned(&pins.map(map::SOCKETS))?;
            bpf::attach_iterator(program.as_fd(), sockets.as_fd(), BPF_TRACE_ITER as u32)
        };
        let iterator = attach().map_err(|error| Missing {
            piece: "link",
            detail: format!("cannot iterate over the sockets: {error}"),
        })?;
        Ok(Self {
            iterator: Arc::new(iterator),
        })
    }

    /// What is known of each socket. One that has a state all the while is listed, and once; except that one which shares
    /// its place in the kernel's table with another that goes meanwhile may be missing.
    pub(crate) fn read(&self) -> io::Result<Vec<SocketState>> {
        let mut file = File::from(bpf::iterate(self.iterator.as_fd())?);
        let mut bytes = Vec::new();
        let mut chunk = vec![0; READ_BYTES];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                // The kernel pauses after a million entries that it had nothing to say about.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        let states = bytes.chunks_exact(size_of::<SocketState>());
        Ok(states.filter_map(SocketState::read).collect())
    }
}
