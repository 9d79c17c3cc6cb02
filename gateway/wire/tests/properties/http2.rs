use super::{cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use relay_wire::http2::{Flood, FrameWatch, Unfinished};

/// With empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame of any type with any flags; mostly a few bytes, sometimes a length that nothing follows.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = vec(any::<u8>(), 0..40);
    let missing_bytes = prop_oneof![9 => Just(0_u32), 1 => 0..20_000_u32];
    (0..12_u8, any::<u8>(), payload, missing_bytes).prop_map(|(code, flags, payload, missing)| {
        let [_, high, mid, low] = (payload.len() as u32 + missing).to_be_bytes();
        let header = [high, mid, low, code, flags, 0, 0, 0, 1];
        [&header[..], &payload].concat()
    })
}

/// After a flood nobody asks where in it the watch stands.
fn verdict(pieces: &[&[u8]]) -> Result<Option<Unfinished>, Flood> {
    let mut watch = FrameWatch::new(0);
    let verdict = pieces.iter().try_for_each(|piece| watch.saw(piece, 0));
    verdict.map(|()| watch.unfinished())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn splitting_the_frames_changes_nothing(
        frames in vec(frame(), 0..60),
        repeated in 1..40_usize,
        cuts in cuts(),
    ) {
        let input = [PREFACE, &frames.concat().repeat(repeated)].concat();
        let whole = verdict(&[&input]);
        prop_assert_eq!(&verdict(&pieces(&input, &cuts)), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&verdict(&bytes), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(input in vec(any::<u8>(), 0..200), cuts in cuts()) {
        let input = [PREFACE, &input].concat();
        prop_assert_eq!(verdict(&pieces(&input, &cuts)), verdict(&[&input]));
    }
}
