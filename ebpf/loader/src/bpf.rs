//! `bpf(2)`, the commands that are made directly: on maps with keys and values as bytes, on links and on what
//! is attached.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands, `enum bpf_cmd`.
mod command {
    pub(super) const MAP_LOOKUP_ELEM: u32 = 1;
    pub(super) const MAP_UPDATE_ELEM: u32 = 2;
    pub(super) const MAP_DELETE_ELEM: u32 = 3;
    pub(super) const MAP_GET_NEXT_KEY: u32 = 4;
    pub(super) const OBJ_PIN: u32 = 6;
    pub(super) const OBJ_GET: u32 = 7;
    pub(super) const PROG_GET_FD_BY_ID: u32 = 13;
    pub(super) const OBJ_GET_INFO_BY_FD: u32 = 15;
    pub(super) const PROG_QUERY: u32 = 16;
    pub(super) const MAP_LOOKUP_AND_DELETE_ELEM: u32 = 21;
    pub(super) const MAP_LOOKUP_BATCH: u32 = 24;
    pub(super) const MAP_UPDATE_BATCH: u32 = 26;
    pub(super) const LINK_CREATE: u32 = 28;
    pub(super) const LINK_UPDATE: u32 = 29;
    pub(super) const ITER_CREATE: u32 = 33;
}

/// `BPF_F_QUERY_EFFECTIVE`: those of the groups above too, which are asked as well.
const QUERY_EFFECTIVE: u32 = 1;

/// Programs for which there is room at first: as many as the kernel takes for one group.
const PROGRAMS_AT_FIRST: usize = 64;

/// Whether an update may insert an entry or replace one.
#[derive(Clone, Copy)]
pub(crate) enum Update {
    /// Either.
    Any = 0,
    /// Insert only.
    NoExist = 1,
    /// Replace only.
    Exist = 2,
}

/// `union bpf_attr` for commands on one entry.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    /// The value, or where the next key goes.
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Batch {
    position_in: u64,
    position_out: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

#[repr(C)]
struct Info {
    object: u32,
    bytes: u32,
    info: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// `union bpf_iter_link_info`, for iterators.
    iterator: u64,
    iterator_bytes: u32,
    padding: u32,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    program_before: u32,
}

#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// The first fields of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_bytes: u32,
    translated_bytes: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    user: u32,
    map_count: u32,
    map_ids: u64,
    /// Its first 15 bytes, and zeros.
    name: [u8; 16],
}

/// The first fields of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_bytes: u32,
    pub(crate) value_bytes: u32,
    pub(crate) entries_max: u32,
    pub(crate) flags: u32,
}

/// The first fields of `struct bpf_link_info`, for a link to a cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program_id: u32,
    padding: u32,
    /// 0 once the cgroup was removed.
    pub(crate) cgroup_id: u64,
    pub(crate) attach_type: u32,
    padding_at_end: u32,
}

/// # Safety
/// Every address in `attribute` must be that of memory which the command may read or write as far as it does.
unsafe fn call<T>(command: u32, attribute: &mut T) -> io::Result<RawFd> {
    let attribute_bytes = size_of::<T>();
    // SAFETY: `attribute` is a prefix of `union bpf_attr` and as long as is said; for what it points to the caller vouches.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attribute, attribute_bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Descriptors are never longer than an int.
    Ok(result as RawFd)
}

/// # Safety
/// As for `call`; and the command must be one that returns a new descriptor.
unsafe fn open<T>(command: u32, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for it.
    let descriptor = unsafe { call(command, attribute) }?;
    // SAFETY: the kernel has just made it, and nobody else knows of it. It is closed at exec: all of bpf(2)'s are.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    descriptor.as_raw_fd() as u32
}

fn address<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<u8>().expose_provenance() as u64
}

fn address_mut<T: ?Sized>(of: &mut T) -> u64 {
    std::ptr::from_mut(of).cast::<u8>().expose_provenance() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// An entry's value, `None` if there is no such entry. The buffers must be as long as the map's keys and values.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    entry_command(command::MAP_LOOKUP_ELEM, map, key, address_mut(value), 0)
}

/// As `lookup`, and removes the entry at the same time.
pub(crate) fn lookup_and_delete(
    map: BorrowedFd<'_>,
    key: &[u8],
    value: &mut [u8],
) -> io::Result<bool> {
    let value = address_mut(value);
    entry_command(command::MAP_LOOKUP_AND_DELETE_ELEM, map, key, value, 0)
}

/// Writes an entry.
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], how: Update) -> io::Result<()> {
    let mut attribute = Element {
        map: number(map),
        padding: 0,
        key: address(key),
        value: address(value),
        flags: how as u64,
    };
    // SAFETY: the kernel only reads key and value, which are as long as the map says (asserted by `Map`, the one caller).
    unsafe { call(command::MAP_UPDATE_ELEM, &mut attribute) }.map(drop)
}

/// Removes an entry; false if there is none.
pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    entry_command(command::MAP_DELETE_ELEM, map, key, 0, 0)
}

/// The key after this one, or the first.
pub(crate) fn next_key(
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    next: &mut [u8],
) -> io::Result<bool> {
    let key = key.unwrap_or_default();
    let next = address_mut(next);
    let mut attribute = Element {
        map: number(map),
        padding: 0,
        key: if key.is_empty() { 0 } else { address(key) },
        value: next,
        flags: 0,
    };
    // SAFETY: as for `entry_command`; no key means to begin.
    existed(unsafe { call(command::MAP_GET_NEXT_KEY, &mut attribute) })
}

fn entry_command(
    command: u32,
    map: BorrowedFd<'_>,
    key: &[u8],
    value: u64,
    flags: u64,
) -> io::Result<bool> {
    let mut attribute = Element {
        map: number(map),
        padding: 0,
        key: address(key),
        value,
        flags,
    };
    // SAFETY: the kernel reads the key and writes the value, both of which are as long as the map says (asserted by `Map`).
    existed(unsafe { call(command, &mut attribute) })
}

fn existed(result: io::Result<RawFd>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Up to `count` entries from `position` on, which is where to continue afterwards. Returns how many there were, and
/// whether these were the last.
pub(crate) fn lookup_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let before = position.unwrap_or_default();
    let mut after = 0_u32;
    let mut attribute = Batch {
        position_in: position.map_or(0, |_| address(&before)),
        position_out: address_mut(&mut after),
        keys: address_mut(keys),
        values: address_mut(values),
        count,
        map: number(map),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: `Map` has asserted that keys and values have room for `count` entries; the position of a hash is four bytes.
    let result = unsafe { call(command::MAP_LOOKUP_BATCH, &mut attribute) };
    *position = Some(after);
    Ok((attribute.count, !existed(result)?))
}

/// Writes `count` entries.
pub(crate) fn update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: u32,
) -> io::Result<()> {
    let mut attribute = Batch {
        position_in: 0,
        position_out: 0,
        keys: address(keys),
        values: address(values),
        count,
        map: number(map),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel only reads keys and values; `Map` has asserted that there are `count` of them.
    unsafe { call(command::MAP_UPDATE_BATCH, &mut attribute) }.map(drop)
}

/// What the kernel knows of a map.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// What the kernel knows of a link to a cgroup.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

/// Numbers of the programs that are asked for this kind of event in the cgroup, whoever has attached them.
pub(crate) fn programs_of(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; PROGRAMS_AT_FIRST];
    loop {
        let mut attribute = Query {
            target: number(cgroup),
            attach_type,
            flags: QUERY_EFFECTIVE,
            attach_flags: 0,
            program_ids: address_mut(ids.as_mut_slice()),
            count: ids.len() as u32,
            padding: 0,
        };
        // SAFETY: the kernel writes at most `count` numbers, for which there is room.
        let result = unsafe { call(command::PROG_QUERY, &mut attribute) };
        let count = attribute.count as usize;
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && count > ids.len() => {
                ids.resize(count, 0);
            }
            Err(error) => return Err(error),
            Ok(_) => {
                ids.truncate(count);
                return Ok(ids);
            }
        }
    }
}

/// The first 15 bytes of a program's name, and zeros. Needs CAP_SYS_ADMIN: it can be anybody's program.
pub(crate) fn program_name(id: u32) -> io::Result<[u8; 16]> {
    let mut attribute = ById {
        id,
        next: 0,
        flags: 0,
    };
    // SAFETY: it points to nothing; and the command returns a descriptor.
    let program = unsafe { open(command::PROG_GET_FD_BY_ID, &mut attribute) }?;
    info(program.as_fd()).map(|info: ProgramInfo| info.name)
}

fn info<T: Default + Copy>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut attribute = Info {
        object: number(object),
        bytes: size_of::<T>() as u32,
        info: address_mut(&mut info),
    };
    // SAFETY: the kernel writes at most as many bytes as are said, and all of them are integers.
    unsafe { call(command::OBJ_GET_INFO_BY_FD, &mut attribute) }?;
    Ok(info)
}

/// Gives a map or a link a name on a bpffs.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attribute = Pin {
        path: address(path.as_bytes_with_nul()),
        object: number(object),
        flags: 0,
    };
    // SAFETY: the path is there until the call returns, and it ends with a zero.
    unsafe { call(command::OBJ_PIN, &mut attribute) }.map(drop)
}

/// Opens what has a name on a bpffs.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attribute = Pin {
        path: address(path.as_bytes_with_nul()),
        object: 0,
        flags: 0,
    };
    // SAFETY: as in `pin`; and the command returns a descriptor.
    unsafe { open(command::OBJ_GET, &mut attribute) }
}

/// Attaches a program to a cgroup; it is detached when nothing refers to the link any more.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attribute = LinkCreate {
        program: number(program),
        target: number(cgroup),
        attach_type,
        flags: 0,
        iterator: 0,
        iterator_bytes: 0,
        padding: 0,
    };
    // SAFETY: it points to nothing; and the command returns a descriptor.
    unsafe { open(command::LINK_CREATE, &mut attribute) }
}

/// Makes an iterator over a map.
pub(crate) fn attach_iterator(
    program: BorrowedFd<'_>,
    map: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let map = number(map);
    let mut attribute = LinkCreate {
        program: number(program),
        target: 0,
        attach_type,
        flags: 0,
        iterator: address(&map),
        iterator_bytes: size_of::<u32>() as u32,
        padding: 0,
    };
    // SAFETY: it points to the number of the map, the only field that this kind of iterator has; and the command returns a
    // descriptor.
    unsafe { open(command::LINK_CREATE, &mut attribute) }
}

/// Puts another program in the place of the one that is attached, without a moment in between.
pub(crate) fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdate {
        link: number(link),
        program: number(program),
        flags: 0,
        program_before: 0,
    };
    // SAFETY: it points to nothing.
    unsafe { call(command::LINK_UPDATE, &mut attribute) }.map(drop)
}

/// Begins an iteration, whose output is read from what is returned.
pub(crate) fn iterate(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attribute = IterCreate {
        link: number(link),
        flags: 0,
    };
    // SAFETY: it points to nothing; and the command returns a descriptor.
    unsafe { open(command::ITER_CREATE, &mut attribute) }
}
