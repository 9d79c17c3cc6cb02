//! Hashes that are the same in every process, and the distances of rendezvous hashing.

/// 64-bit FNV-1a (RFC 9923), with a mixing step at the end so that all bits of the result depend on all bits of the input.
#[derive(Clone, Copy)]
struct Hasher(u64);

// What is hashed for one purpose has nothing to do with what is hashed for another. Each byte waits for the one before it: those
// that are always the same are hashed when this is compiled.
const OF_CONVERSATIONS: Hasher = Hasher::new("conversation");
const OF_ACCOUNTS: Hasher = Hasher::new("account");
const OF_TENANTS: Hasher = Hasher::new("tenant");
const OF_RESPONSES: Hasher = Hasher::new("response");

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The part of a response's hash that all responses of its tenant have in common.
pub(super) const TENANT_MASK: u64 = 0xff << 56;

impl Hasher {
    const fn new(purpose: &str) -> Self {
        Self(FNV_OFFSET_BASIS).part(purpose.as_bytes())
    }

    /// The length comes first, so that where one part ends and the next begins makes a difference.
    const fn part(self, part: &[u8]) -> Self {
        let length = (part.len() as u64).to_le_bytes();
        self.bytes(&length).bytes(part)
    }

    const fn bytes(mut self, mut bytes: &[u8]) -> Self {
        while let [byte, rest @ ..] = bytes {
            self.0 = (self.0 ^ *byte as u64).wrapping_mul(FNV_PRIME);
            bytes = rest;
        }
        self
    }

    fn finish(self) -> u64 {
        mixed(self.0)
    }
}

/// The finalizer of MurmurHash3: a permutation in which each bit that changes changes half of the others.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// The hash of a conversation of this tenant.
pub fn conversation_hash(tenant_name: &str, key: &[u8]) -> u64 {
    OF_CONVERSATIONS
        .part(tenant_name.as_bytes())
        .part(key)
        .finish()
}

/// The hash of an account, by which its conversations find it.
pub fn account_hash(name: &str) -> u64 {
    OF_ACCOUNTS.part(name.as_bytes()).finish()
}

/// The hash of a stored response of this tenant. Its upper byte is the tenant's alone, by which the table keeps them apart.
pub(super) fn response_hash(tenant_name: &str, response_id: &[u8]) -> u64 {
    let tenant = OF_TENANTS.part(tenant_name.as_bytes()).finish();
    let response = OF_RESPONSES
        .part(tenant_name.as_bytes())
        .part(response_id)
        .finish();
    (tenant & TENANT_MASK) | (response & !TENANT_MASK)
}

/// How far a conversation is from an account, over 0: divided by the accounts' weights, the least of these says where it
/// belongs. Over all conversations it is distributed exponentially, so each account has the least as often as its weight says,
/// and when one comes or goes only its own conversations move.
pub fn distance(conversation: u64, account: u64) -> f64 {
    let upper_bits = mixed(conversation ^ account) >> 11;
    // In the middle of one of 2^53 equal parts of 0 to 1: neither end is ever reached.
    let uniform = (upper_bits as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Test vectors of RFC 9923.
        for (input, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let hash = Hasher(FNV_OFFSET_BASIS).bytes(input.as_bytes());
            assert_eq!(hash.0, expected, "{input}");
        }
    }

    #[test]
    fn hashes_are_the_same_in_every_process_and_release() {
        // Other values send every conversation elsewhere, and make strangers of all stored responses.
        assert_eq!(
            conversation_hash("acme", b"thread-1"),
            0x286e_393a_099e_a988
        );
        assert_eq!(account_hash("primary"), 0x951b_c374_d4c1_44fc);
        assert_eq!(response_hash("acme", b"resp_1"), 0x1e0f_8eaa_fa05_2285);
        assert_eq!(mixed(1), 0xb456_bcfc_34c2_cb2c);
    }

    #[test]
    fn responses_of_a_tenant_have_their_upper_byte_in_common() {
        let tenant = |tenant_name, id| response_hash(tenant_name, id) & TENANT_MASK;
        assert_eq!(tenant("acme", b"resp_1"), tenant("acme", b"resp_2"));
        assert_ne!(tenant("acme", b"resp_1"), tenant("other", b"resp_1"));
        // And nothing else: two tenants may share that byte.
        let rest = |tenant_name| response_hash(tenant_name, b"resp_1") & !TENANT_MASK;
        assert_ne!(rest("acme"), rest("other"));
    }

    #[test]
    fn purpose_tenant_and_key_all_count_and_do_not_run_into_each_other() {
        let hash = conversation_hash("acme", b"thread-1");
        assert_ne!(hash, conversation_hash("other", b"thread-1"));
        assert_ne!(hash, conversation_hash("acme", b"thread-2"));
        assert_ne!(hash, conversation_hash("acmet", b"hread-1"));
        assert_ne!(hash, response_hash("acme", b"thread-1"));
    }

    #[test]
    fn distances_are_positive_and_finite_whatever_the_hashes() {
        // These make the mixed bits all zero, and the upper ones nearly all one.
        for (conversation, account) in [(0, 0), (5, 5), (1, 0), (u64::MAX, 0), (0, u64::MAX)] {
            let distance = distance(conversation, account);
            assert!(
                distance > 0.0 && distance.is_finite(),
                "{conversation} {account} {distance}"
            );
        }
    }
}
