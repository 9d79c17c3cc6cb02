//! What has to hold for any input and any way of splitting it.

mod body;
mod dialect;
mod head;
mod http2;
mod json;
mod sse;
mod translate;
mod usage_chunk;
mod websocket;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Places to cut an input at, which `pieces` fits to its length.
fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..6)
}

/// The input cut at these places.
fn pieces<'i>(input: &'i [u8], cuts: &[Index]) -> Vec<&'i [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut start = 0;
    let cut = |end| {
        let piece = &input[start..end];
        start = end;
        piece
    };
    ends.into_iter().map(cut).collect()
}

/// A change of one place of an input: remove, insert or replace a byte.
#[derive(Clone, Debug)]
enum Change {
    Remove(Index),
    Insert(Index, u8),
    Replace(Index, u8),
}

/// Few changes, mostly with bytes that mean something.
fn changes(meaningful: &'static [u8]) -> impl Strategy<Value = Vec<Change>> {
    let byte = prop_oneof![
        4 => proptest::sample::select(meaningful),
        1 => any::<u8>(),
    ];
    let change = prop_oneof![
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        (any::<Index>(), byte).prop_map(|(at, byte)| Change::Replace(at, byte)),
    ];
    vec(change, 0..4)
}

fn changed(input: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut changed = input.to_vec();
    for change in changes {
        match change {
            Change::Insert(at, byte) => changed.insert(at.index(changed.len() + 1), *byte),
            Change::Remove(at) if !changed.is_empty() => {
                changed.remove(at.index(changed.len()));
            }
            Change::Replace(at, byte) if !changed.is_empty() => {
                let at = at.index(changed.len());
                changed[at] = *byte;
            }
            Change::Remove(_) | Change::Replace(..) => {}
        }
    }
    changed
}
