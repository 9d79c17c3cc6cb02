//! Field blocks (RFC 7541). The encoder is a set of functions for the representations, so that a test can write any block; the
//! decoder keeps a dynamic table and takes nothing that the RFC forbids.

use super::huffman;
use std::collections::VecDeque;

/// Names with their values, in order.
pub type Fields = Vec<(String, Vec<u8>)>;

/// The size of a dynamic table before anybody has changed it.
pub const TABLE_BYTES: usize = 4096;

/// What an entry costs besides its bytes (RFC 7541, section 4.1).
const ENTRY_BYTES: usize = 32;

/// A symbol of the Huffman code that may not be in a string.
pub const EOS: usize = huffman::EOS;

/// An integer behind the bits of `first` above the lowest `prefix` (RFC 7541, section 5.1).
pub fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | low_byte(value)];
    }
    let mut bytes = vec![first | low_byte(most)];
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(low_byte(rest) | 128);
        rest >>= 7;
    }
    bytes.push(low_byte(rest));
    bytes
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

/// A string as it is (RFC 7541, section 5.2).
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&integer(0, 7, text.len()), text].concat()
}

/// A string of these symbols in the Huffman code.
pub fn huffman_string(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let coded = huffman::encode(symbols);
    [integer(0x80, 7, coded.len()), coded].concat()
}

/// A string in the Huffman code.
pub fn huffman(text: impl AsRef<[u8]>) -> Vec<u8> {
    huffman_string(text.as_ref().iter().map(|byte| usize::from(*byte)))
}

/// A field of the tables (RFC 7541, section 6.1).
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A field that does not go into the dynamic table (RFC 7541, section 6.2.2).
pub fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// The same, with a name of the tables.
pub fn literal_of(name_index: usize, value: impl AsRef<[u8]>) -> Vec<u8> {
    [integer(0, 4, name_index), string(value)].concat()
}

/// A field that goes into the dynamic table (RFC 7541, section 6.2.1).
pub fn inserted(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// The same, with a name of the tables.
pub fn inserted_of(name_index: usize, value: impl AsRef<[u8]>) -> Vec<u8> {
    [integer(0x40, 6, name_index), string(value)].concat()
}

/// A field that must not go into any table (RFC 7541, section 6.2.3).
pub fn never_indexed(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x10], string(name), string(value)].concat()
}

/// A new size of the dynamic table (RFC 7541, section 6.3).
pub fn table_size(bytes: usize) -> Vec<u8> {
    integer(0x20, 5, bytes)
}

/// A block of fields, none of which goes into the dynamic table.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let fields = fields.iter();
    fields
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// Reads the blocks of one direction of a connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The youngest first.
    table: VecDeque<(String, Vec<u8>)>,
    table_bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes_max: TABLE_BYTES,
        }
    }
}

impl Decoder {
    /// The fields of a block.
    ///
    /// # Errors
    /// Says what breaks RFC 7541.
    pub(super) fn decode(&mut self, mut block: &[u8]) -> Result<Fields, String> {
        let mut fields = Vec::new();
        while let Some(first) = block.first().copied() {
            if first & 0xe0 == 0x20 {
                let bytes_max = take_integer(&mut block, 5)?;
                if !fields.is_empty() || bytes_max > TABLE_BYTES {
                    return Err(format!("table of {bytes_max} behind {}", fields.len()));
                }
                self.table_bytes_max = bytes_max;
                self.evict();
                continue;
            }
            if first & 0x80 != 0 {
                let index = take_integer(&mut block, 7)?;
                fields.push(self.entry(index)?);
                continue;
            }
            let insert = first & 0x40 != 0;
            let name = match take_integer(&mut block, if insert { 6 } else { 4 })? {
                0 => String::from_utf8(take_string(&mut block)?).map_err(|e| e.to_string())?,
                index => self.entry(index)?.0,
            };
            let field = (name, take_string(&mut block)?);
            if insert {
                self.table.push_front(field.clone());
                self.evict();
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<(String, Vec<u8>), String> {
        let place = index.checked_sub(1).ok_or("index 0")?;
        if let Some((name, value)) = STATIC_TABLE.get(place) {
            return Ok(((*name).to_owned(), value.as_bytes().to_vec()));
        }
        let found = self.table.get(place - STATIC_TABLE.len());
        found.cloned().ok_or_else(|| format!("index {index}"))
    }

    fn evict(&mut self) {
        let bytes = |(name, value): &(String, Vec<u8>)| name.len() + value.len() + ENTRY_BYTES;
        while self.table.iter().map(bytes).sum::<usize>() > self.table_bytes_max {
            self.table.pop_back();
        }
    }
}

fn take_integer(block: &mut &[u8], prefix: u32) -> Result<usize, String> {
    let mut byte = || {
        let (first, rest) = block.split_first().ok_or("a block that is cut")?;
        *block = rest;
        Ok::<_, String>(usize::from(*first))
    };
    let most = (1 << prefix) - 1;
    let mut value = byte()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let more = byte()?;
        value += (more & 127) << shift;
        if more & 128 == 0 {
            return Ok(value);
        }
    }
    Err("an integer of more than 28 bits".to_owned())
}

fn take_string(block: &mut &[u8]) -> Result<Vec<u8>, String> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (text, rest) = block
        .split_at_checked(length)
        .ok_or("a string that is cut")?;
    *block = rest;
    if is_coded {
        huffman::decode(text)
    } else {
        Ok(text.to_vec())
    }
}

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::{Decoder, block, indexed, inserted, literal_of, table_size};

    /// RFC 7541, appendix C.4: three requests on one connection, in the Huffman code.
    #[test]
    fn the_examples_of_the_rfc() {
        let mut decoder = Decoder::default();
        let blocks: [(&[u8], usize); 3] = [
            (b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", 4),
            (b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", 5),
            (b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", 5),
        ];
        for (block, count) in blocks {
            let fields = decoder.decode(block).expect("a good block");
            assert_eq!(fields.len(), count);
            assert_eq!(
                fields[3],
                (":authority".to_owned(), b"www.example.com".to_vec())
            );
        }
        let names: Vec<_> = decoder.table.iter().map(|field| field.0.as_str()).collect();
        assert_eq!(names, ["custom-key", "cache-control", ":authority"]);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut decoder = Decoder::default();
        let written = [
            table_size(100),
            inserted("a", "1"),
            indexed(62),
            literal_of(62, "2"),
            block(&[("b", vec![b'x'; 300])]),
        ];
        let fields = decoder.decode(&written.concat()).expect("a good block");
        let read = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let expected = [
            read("a", b"1"),
            read("a", b"1"),
            read("a", b"2"),
            read("b", &[b'x'; 300]),
        ];
        assert_eq!(fields, expected);
        assert!(decoder.decode(&indexed(63)).is_err());
        assert!(decoder.decode(&table_size(4097)).is_err());
    }
}
