//! The pinned maps and links, opened beside the loader: to look at what it does not show, and to break what it should mend.

use aya::maps::{HashMap, Map, MapData};
use aya::{Pod, maps};
use relay_ebpf::Places;
use std::fs;
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
