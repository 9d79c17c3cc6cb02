//! How many bytes of payload a connection carried, from what the kernel counts.
//!
//! The kernel's totals are differences of sequence numbers, in which SYN and FIN take one each (RFC 9293 section 3.4).

/// States of a connection, as the kernel numbers them (`enum` in `net/tcp_states.h`, given to programs as `BPF_TCP_…`).
pub mod state {
    /// Our FIN is acknowledged, the far side's has not come.
    pub const FIN_WAIT2: u32 = 5;
    /// Both FINs have come and are acknowledged.
    pub const TIME_WAIT: u32 = 6;
    /// There is no connection.
    pub const CLOSE: u32 = 7;
    /// The far side's FIN has come.
    pub const CLOSE_WAIT: u32 = 8;
    /// The far side's FIN has come, ours is sent.
    pub const LAST_ACK: u32 = 9;
    /// A listener.
    pub const LISTEN: u32 = 10;
    /// Both sides have sent a FIN at the same time.
    pub const CLOSING: u32 = 11;
}

/// Payload that the far side has acknowledged, of a connection that leaves `last_state`. `all_acknowledged`: nothing that
/// was sent is outstanding.
pub const fn payload_sent(bytes_acked: u64, last_state: u32, all_acknowledged: bool) -> u64 {
    let fin = match last_state {
        state::FIN_WAIT2 | state::TIME_WAIT => 1,
        state::CLOSING | state::LAST_ACK if all_acknowledged => 1,
        _ => 0,
    };
    bytes_acked.saturating_sub(1 + fin)
}

/// Payload received, of a connection that leaves `last_state`. FIN_WAIT2 is left when the FIN comes; where it is left for
/// lack of it, a byte too few is reported.
pub const fn payload_received(bytes_received: u64, last_state: u32) -> u64 {
    let fin = match last_state {
        state::FIN_WAIT2
        | state::TIME_WAIT
        | state::CLOSE_WAIT
        | state::LAST_ACK
        | state::CLOSING => 1,
        _ => 0,
    };
    bytes_received.saturating_sub(fin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTABLISHED: u32 = 1;
    const SYN_SENT: u32 = 2;

    #[test]
    fn syn_and_fin_are_no_payload() {
        // Closed by us: both FINs went through.
        assert_eq!(payload_sent(102, state::FIN_WAIT2, true), 100);
        assert_eq!(payload_received(51, state::FIN_WAIT2), 50);
        // Closed by the far side, our FIN acknowledged.
        assert_eq!(payload_sent(102, state::LAST_ACK, true), 100);
        assert_eq!(payload_received(51, state::LAST_ACK), 50);
        // The same, reset before our FIN was acknowledged.
        assert_eq!(payload_sent(101, state::LAST_ACK, false), 100);
        // Reset in the middle.
        assert_eq!(payload_sent(101, ESTABLISHED, true), 100);
        assert_eq!(payload_received(50, ESTABLISHED), 50);
        // Never established.
        assert_eq!(payload_sent(0, SYN_SENT, true), 0);
    }
}
