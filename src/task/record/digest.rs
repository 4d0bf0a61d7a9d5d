//! FNV-1a with 128 bits (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>).

/// A digest that is being made.
pub(super) struct Digest(u128);

impl Digest {
    pub fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// Adds a text behind its length, so that no text can reach into the next one.
    pub fn add(&mut self, text: &str) {
        self.add_bytes(&(text.len() as u64).to_le_bytes());
        self.add_bytes(text.as_bytes());
    }

    pub fn add_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    pub fn finish(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn the_digest_is_that_of_its_authors() {
        let mut known = Digest::new();
        known.add_bytes(b"foobar");
        assert_eq!(known.finish(), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
