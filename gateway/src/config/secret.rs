//! Values that must never be seen: no `Debug`, no `Display`, no `Clone`; overwritten when dropped.

use zeroize::Zeroizing;

/// A secret. The only way to its bytes is `expose`, so that every use can be found by name.
///
/// ```compile_fail
/// fn shown<T: std::fmt::Debug>() {}
/// shown::<codex_relay::config::Secret>();
/// ```
/// ```compile_fail
/// fn printed<T: std::fmt::Display>() {}
/// printed::<codex_relay::config::Secret>();
/// ```
/// ```compile_fail
/// fn copied<T: Clone>() {}
/// copied::<codex_relay::config::Secret>();
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of the bytes; the caller's copy must not exist any more.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, to be written to their destination at once and nowhere else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
