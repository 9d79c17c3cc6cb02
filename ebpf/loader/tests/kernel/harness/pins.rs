//! The pinned maps and links, opened beside the loader: to look at what it does not show, and to break what it should mend.

use aya::maps::{HashMap, Map, MapData};
use aya::{Pod, maps};
use relay_ebpf::Places;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Everything that is pinned, at any depth.
pub(crate) fn all(places: &Places) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&places.pins, &mut found);
    found.sort();
    found
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Where a map is pinned.
pub(crate) fn path(places: &Places, name: &str) -> PathBuf {
    all(places)
        .into_iter()
        .find(|path| path.file_name().is_some_and(|found| found == name))
        .unwrap_or_else(|| panic!("{name} is pinned"))
}

fn open(places: &Places, name: &str) -> MapData {
    MapData::from_pin(path(places, name)).expect("the map opens")
}

/// A pinned hash map.
pub(crate) fn hash<K: Pod, V: Pod>(places: &Places, name: &str) -> HashMap<MapData, K, V> {
    HashMap::try_from(Map::HashMap(open(places, name))).expect("a hash map")
}

/// A pinned array.
pub(crate) fn array<V: Pod>(places: &Places, name: &str) -> maps::Array<MapData, V> {
    maps::Array::try_from(Map::Array(open(places, name))).expect("an array")
}

/// Detaches a pinned link by force, whoever refers to it.
pub(crate) fn detach(link: &Path) {
    /// `enum bpf_cmd`, and the attributes of its commands as far as they are used.
    const OBJ_GET: u32 = 7;
    const LINK_DETACH: u32 = 34;
    let path = CString::new(link.as_os_str().as_bytes()).expect("a path");
    let address = path.as_ptr() as u64;
    let get = [address, 0];
    // SAFETY: the attribute names a path that ends with a zero; all of it outlives the call.
    let descriptor =
        unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, get.as_ptr(), size_of_val(&get)) };
    let descriptor = u32::try_from(descriptor).expect("the link opens");
    let detach = [descriptor];
    // SAFETY: the attribute points to nothing and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LINK_DETACH,
            detach.as_ptr(),
            size_of_val(&detach),
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    // SAFETY: nobody else knows the descriptor.
    unsafe { libc::close(descriptor as i32) };
}
