//! What a test waits for.

use super::Peer;
use crate::http2::Frame;

impl Peer {
    /// The other side resets this stream with one of these codes, and the connection goes on.
    ///
    /// # Panics
    /// If it does anything else.
    pub fn expect_reset(&mut self, stream: u32, codes: &[u32]) {
        let reset = self.wait("RST_STREAM", |peer| {
            assert!(!peer.is_over, "the connection ended: {:?}", peer.goaways);
            let incoming = peer.incoming(stream);
            assert!(!incoming.is_complete, "answered: {incoming:?}");
            incoming.reset
        });
        assert!(codes.contains(&reset), "RST_STREAM with {reset}");
        self.expect_alive();
    }

    /// The other side ends the connection, after a GOAWAY with one of these codes. Returns the last stream of that.
    ///
    /// # Panics
    /// If it does anything else.
    pub fn expect_goaway(&mut self, codes: &[u32]) -> u32 {
        self.expect_closed();
        let goaway = self.goaways.last().copied();
        let (last, code) = goaway.expect("GOAWAY before the end");
        assert!(codes.contains(&code), "GOAWAY with {code}");
        last
    }

    /// The other side ends the connection.
    ///
    /// # Panics
    /// If it does not.
    pub fn expect_closed(&mut self) {
        self.wait("the end", |peer| peer.is_over.then_some(()));
    }

    /// The other side answers a ping, and so has taken in all that was sent before.
    ///
    /// # Panics
    /// If it does not, or is leaving.
    pub fn expect_alive(&mut self) {
        let payload = (self.pongs.len() as u64 ^ 0x0070_696e_673f).to_be_bytes();
        assert!(self.try_frame(&Frame::ping(payload)), "it is gone");
        self.wait("PING's answer", |peer| {
            assert!(!peer.is_over, "the connection ended: {:?}", peer.goaways);
            peer.has_pong(payload).then_some(())
        });
        assert_eq!(self.goaways, [], "it is leaving");
    }

    /// Has a ping with this payload been answered?
    pub fn has_pong(&self, payload: [u8; 8]) -> bool {
        self.pongs.contains(&payload)
    }

    /// Takes in frames until there is something to find.
    ///
    /// # Panics
    /// If nothing comes for longer than the patience, and as `probe` does.
    pub fn wait<T>(&mut self, what: &str, mut probe: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            if let Some(found) = probe(self) {
                return found;
            }
            assert!(!self.is_over, "the connection ended before {what}");
            self.step();
        }
    }

    /// Takes in frames until this holds or the connection is over.
    pub(super) fn wait_unless_over(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) && self.step().is_some() {}
    }
}
