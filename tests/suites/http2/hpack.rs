//! Field blocks: what cannot be decoded is an error of the connection, as nothing behind it can be either (RFC 7541).

use crate::{
    Case, case, expect_answer, expect_connection_error, expect_malformed, get, unfinished,
};
use relay_tests::config::TENANT_KEY;
use relay_tests::http2::hpack::{
    EOS, TABLE_BYTES, block, huffman, huffman_string, indexed, inserted, inserted_of, literal,
    literal_of, never_indexed, string, table_size,
};
use relay_tests::http2::{Frame, Peer, code};

/// Places of the static table (RFC 7541, appendix A).
const AUTHORITY: usize = 1;
const GET: usize = 2;
const PATH: usize = 4;
const HTTP: usize = 6;
const AUTHORIZATION: usize = 23;
/// The youngest entry of the dynamic table.
const YOUNGEST: usize = 62;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(representations());
    cases.extend(tables());
    cases.extend(undecodable());
    cases.extend(errors_of_streams());
    cases
}

fn key() -> String {
    format!("Bearer {TENANT_KEY}")
}

/// The block of a GET, but for the key.
fn anonymous() -> Vec<u8> {
    [
        indexed(GET),
        indexed(HTTP),
        literal_of(AUTHORITY, "gateway.test"),
        literal_of(PATH, "/v1/plain"),
    ]
    .concat()
}

fn answered(name: &'static str, section: &'static str, key_field: Vec<u8>) -> Case {
    case(section, name, move |peer| {
        let stream = peer.open_with([anonymous(), key_field.clone()].concat(), true);
        expect_answer(peer, stream);
    })
}

fn representations() -> Vec<Case> {
    let coded = huffman(key());
    let name = huffman("authorization");
    vec![
        answered("a literal", "7541 6.2.2", literal("authorization", key())),
        answered(
            "a literal, the name indexed",
            "7541 6.2.2",
            literal_of(AUTHORIZATION, key()),
        ),
        answered(
            "an insertion",
            "7541 6.2.1",
            inserted("authorization", key()),
        ),
        answered(
            "an insertion, the name indexed",
            "7541 6.2.1",
            inserted_of(AUTHORIZATION, key()),
        ),
        answered(
            "never indexed",
            "7541 6.2.3",
            never_indexed("authorization", key()),
        ),
        answered(
            "in the Huffman code",
            "7541 5.2",
            [vec![0], name, coded.clone()].concat(),
        ),
        answered(
            "an index of two bytes",
            "7541 5.1",
            [vec![0x0f, 8], coded].concat(),
        ),
        answered(
            "an index in more bytes than it needs",
            "7541 5.1",
            [vec![0x0f, 0x88, 0x80, 0], string(key())].concat(),
        ),
        answered(
            "an empty string in the Huffman code",
            "7541 5.2",
            [
                literal("authorization", key()),
                vec![0],
                string("x-empty"),
                huffman(""),
            ]
            .concat(),
        ),
        case(
            "7541 5.2",
            "every byte that a value may have, in the Huffman code",
            |peer| {
                let value: Vec<u8> = (0x21..=0xff).filter(|byte| *byte != 0x7f).collect();
                let odd = [vec![0], string("x-bytes"), huffman(value)].concat();
                let stream = peer.open_with([get("/v1/plain"), odd].concat(), true);
                expect_answer(peer, stream);
            },
        ),
    ]
}

fn tables() -> Vec<Case> {
    vec![
        case(
            "7541 2.3.2",
            "an insertion serves the same block and the next",
            |peer| {
                let first = [anonymous(), inserted("x-kept", "1"), indexed(YOUNGEST)].concat();
                let stream =
                    peer.open_with([first, inserted_of(AUTHORIZATION, key())].concat(), true);
                expect_answer(peer, stream);
                with_youngest(peer);
            },
        ),
        case("7541 4.4", "the oldest go when the table is full", |peer| {
            let mut block = anonymous();
            // Five of more than a thousand bytes: three of them stay, with the key.
            block.extend((0..5).flat_map(|number| inserted("x-filler", format!("{number:01000}"))));
            block.extend(inserted_of(AUTHORIZATION, key()));
            let stream = peer.open_with(block, true);
            expect_answer(peer, stream);
            with_youngest(peer);
            expect_compression_error(peer, &[anonymous(), indexed(YOUNGEST + 4)].concat());
        }),
        case(
            "7541 4.4",
            "an entry larger than the table empties it",
            |peer| {
                let large = inserted("x-large", "x".repeat(TABLE_BYTES));
                let block = [inserted_of(AUTHORIZATION, key()), large].concat();
                let stream = peer.open_with([anonymous(), block].concat(), true);
                expect_answer(peer, stream);
                expect_compression_error(peer, &[anonymous(), indexed(YOUNGEST)].concat());
            },
        ),
        case("7541 4.2", "a size of 0 empties the table", |peer| {
            let stream = peer.open_with(
                [anonymous(), inserted_of(AUTHORIZATION, key())].concat(),
                true,
            );
            expect_answer(peer, stream);
            let block = [
                table_size(0),
                table_size(TABLE_BYTES),
                anonymous(),
                literal("authorization", key()),
            ];
            let stream = peer.open_with(block.concat(), true);
            expect_answer(peer, stream);
            expect_compression_error(peer, &[anonymous(), indexed(YOUNGEST)].concat());
        }),
        case("7541 4.3", "a smaller size drops the oldest", |peer| {
            let block = [
                anonymous(),
                inserted("x-old", "1"),
                inserted_of(AUTHORIZATION, key()),
            ];
            let stream = peer.open_with(block.concat(), true);
            expect_answer(peer, stream);
            let size = "authorization".len() + key().len() + 32;
            let stream = peer.open_with(
                [table_size(size), anonymous(), indexed(YOUNGEST)].concat(),
                true,
            );
            expect_answer(peer, stream);
            expect_compression_error(peer, &[anonymous(), indexed(YOUNGEST + 1)].concat());
        }),
        case("7541 2.3.3", "names of the dynamic table", |peer| {
            let block = [anonymous(), inserted("authorization", "Bearer nobody")].concat();
            let stream = peer.open_with(block, true);
            assert_eq!(peer.response(stream).status(), 401);
            let stream = peer.open_with([anonymous(), literal_of(YOUNGEST, key())].concat(), true);
            expect_answer(peer, stream);
        }),
        case(
            "9113 4.3",
            "the table follows the blocks of requests that are refused",
            |peer| {
                let mut fields = crate::head("GET", "/v1/malformed");
                fields.push(crate::field("connection", "close"));
                let insertion = inserted_of(AUTHORIZATION, key());
                let stream = peer.open_with([block(&fields), insertion].concat(), true);
                expect_malformed(peer, stream);
                with_youngest(peer);
            },
        ),
        case(
            "9113 4.3",
            "the table follows the blocks of streams that were refused",
            |peer| {
                let streams: Vec<u32> = (0..crate::STREAMS_MAX).map(|_| unfinished(peer)).collect();
                let block = [anonymous(), inserted_of(AUTHORIZATION, key())].concat();
                let beyond = peer.open_with(block, true);
                peer.expect_reset(beyond, &[code::REFUSED_STREAM]);
                peer.frame(&Frame::data(streams[0], *b"body", true));
                assert_eq!(peer.response(streams[0]).payload, b"body");
                with_youngest(peer);
            },
        ),
        case("9113 4.3", "the table follows trailers", |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::data(stream, *b"body", false));
            peer.frame(&Frame::headers(
                stream,
                inserted_of(AUTHORIZATION, key()),
                true,
            ));
            assert_eq!(peer.response(stream).payload, b"body");
            with_youngest(peer);
        }),
    ]
}

/// A request whose key is the youngest entry of the table.
fn with_youngest(peer: &mut Peer) {
    let stream = peer.open_with([anonymous(), indexed(YOUNGEST)].concat(), true);
    expect_answer(peer, stream);
}

fn expect_compression_error(peer: &mut Peer, block: &[u8]) {
    peer.open_with(block, true);
    expect_connection_error(peer, code::COMPRESSION_ERROR);
}

fn undecodable() -> Vec<Case> {
    let with = |rest: Vec<u8>| [get("/v1/malformed"), rest].concat();
    let mut long_number = vec![0xff; 1];
    long_number.extend([0x80; 40]);
    long_number.push(1);
    let coded = |symbols: &[usize]| huffman_string(symbols.iter().copied());
    let blocks: Vec<(&str, &str, Vec<u8>)> = vec![
        ("7541 6.1", "index 0", with(indexed(0))),
        (
            "7541 2.3.3",
            "an index behind both tables",
            with(indexed(YOUNGEST)),
        ),
        (
            "7541 2.3.3",
            "an index far behind both tables",
            with(indexed(100_000)),
        ),
        (
            "7541 2.3.3",
            "a name behind both tables",
            with(literal_of(YOUNGEST, "x")),
        ),
        (
            "7541 2.3.3",
            "an inserted name behind both tables",
            with(inserted_of(YOUNGEST, "x")),
        ),
        (
            "7541 4.2",
            "a table larger than was allowed",
            [table_size(TABLE_BYTES + 1), get("/v1/malformed")].concat(),
        ),
        (
            "7541 4.2",
            "a table beyond all bounds",
            [table_size(1 << 40), get("/v1/malformed")].concat(),
        ),
        ("7541 4.2", "a new size behind a field", with(table_size(0))),
        (
            "7541 4.2",
            "a new size between fields",
            [
                indexed(GET),
                table_size(100),
                get("/v1/malformed")[1..].to_vec(),
            ]
            .concat(),
        ),
        (
            "7541 5.1",
            "an integer beyond all bounds",
            with(long_number.clone()),
        ),
        (
            "7541 5.1",
            "an integer of 2^64",
            with(vec![
                0xff, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ]),
        ),
        ("7541 5.1", "an integer that is cut", with(vec![0xff, 0x80])),
        ("7541 5.1", "a name's index that is cut", with(vec![0x0f])),
        (
            "7541 5.2",
            "a length beyond the block",
            with([vec![0], string("x-cut"), vec![100, b'a']].concat()),
        ),
        (
            "7541 5.2",
            "a length beyond all bounds",
            with([vec![0x00, 0x7f], vec![0xff; 8], vec![1]].concat()),
        ),
        (
            "7541 5.2",
            "a field without a value",
            with([vec![0], string("x-cut")].concat()),
        ),
        ("7541 5.2", "a literal without anything", with(vec![0])),
        (
            "7541 5.2",
            "padding of zeros",
            with(vec![0, 1, b'x', 0x81, 0x18]),
        ),
        (
            "7541 5.2",
            "padding of eight bits",
            with(vec![0, 1, b'x', 0x82, 0x1f, 0xff]),
        ),
        (
            "7541 5.2",
            "nothing but padding",
            with(vec![0, 1, b'x', 0x81, 0xff]),
        ),
        (
            "7541 5.2",
            "EOS in a value",
            with([vec![0], string("x-eos"), coded(&[97, EOS])].concat()),
        ),
        (
            "7541 5.2",
            "EOS in a name",
            with([vec![0], coded(&[97, EOS]), string("x")].concat()),
        ),
        (
            "7541 5.2",
            "a code that is cut",
            with(vec![0, 1, b'x', 0x81, 0xfe]),
        ),
    ];
    let mut cases = Vec::new();
    for (section, name, block) in blocks {
        let shown = name.to_owned();
        cases.push(case(section, shown, {
            let block = block.clone();
            move |peer| expect_compression_error(peer, &block)
        }));
    }
    cases.push(case(
        "9113 4.3",
        "trailers that cannot be decoded",
        |peer| {
            let stream = unfinished(peer);
            peer.frame(&Frame::data(stream, *b"body", false));
            peer.frame(&Frame::headers(stream, indexed(0), true));
            expect_connection_error(peer, code::COMPRESSION_ERROR);
        },
    ));
    cases.push(case(
        "9113 4.3",
        "a block that ends within a field, at CONTINUATION",
        |peer| {
            let stream = peer.next_stream();
            peer.frame(&Frame::begin_headers(stream, get("/v1/malformed"), true));
            peer.frame(&Frame::continuation(stream, [0x00, 0x05, b'a'], true));
            expect_connection_error(peer, code::COMPRESSION_ERROR);
        },
    ));
    cases
}

/// What can be decoded and may not be taken.
fn errors_of_streams() -> Vec<Case> {
    vec![
        case(
            "9113 10.5.1",
            "a head that is larger than was announced",
            |peer| {
                let mut block = get("/v1/malformed");
                block.extend(inserted("x-long", "x".repeat(3000)));
                block.extend(indexed(YOUNGEST).repeat(12));
                let stream = peer.open_with(block, true);
                assert_eq!(peer.response(stream).status(), 431);
                crate::expect_service(peer);
            },
        ),
        case(
            "9113 10.5.1",
            "a bomb: a field that is sent once, and named again and again",
            |peer| {
                let mut block = get("/v1/malformed");
                block.extend(inserted("x-bomb", "x".repeat(3000)));
                block.extend(indexed(YOUNGEST).repeat(5000));
                peer.open_with(block, true);
                peer.expect_goaway(&[code::ENHANCE_YOUR_CALM]);
            },
        ),
        case(
            "9113 10.5.1",
            "trailers that are larger than was announced",
            |peer| {
                let stream = unfinished(peer);
                peer.frame(&Frame::data(stream, *b"body", false));
                let mut block = inserted("x-bomb", "x".repeat(3000));
                block.extend(indexed(YOUNGEST).repeat(5000));
                peer.frame(&Frame::headers(stream, block, true));
                peer.wait("an end", |peer| {
                    (peer.is_over() || peer.incoming(stream).is_over()).then_some(())
                });
                let incoming = peer.incoming(stream);
                assert!(
                    !incoming.is_complete || incoming.body != b"body",
                    "{incoming:?}"
                );
            },
        ),
    ]
}
