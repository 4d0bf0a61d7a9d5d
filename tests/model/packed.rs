//! States as a few machine words, so that millions of them fit into memory.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// How many words a state takes.
const WORDS: usize = 4;

/// A state, packed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed([u64; WORDS]);

impl Hash for Packed {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut hash = 0u64;
        for word in self.0 {
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        hasher.write_u64(hash ^ (hash >> 32));
    }
}

/// Passes on the hash that [`Packed`] computes.
#[derive(Default)]
pub struct PackedHasher(u64);

impl Hasher for PackedHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a packed state is hashed as one word")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Makes the hashers of a map of packed states.
pub type BuildPackedHasher = BuildHasherDefault<PackedHasher>;

/// Writes the fields of a state into words, or reads them from words.
pub struct Codec {
    packed: Packed,
    at: usize,
    reads: bool,
}

impl Codec {
    pub fn writer() -> Self {
        Self { packed: Packed::default(), at: 0, reads: false }
    }

    pub fn reader(packed: Packed) -> Self {
        Self { packed, at: 0, reads: true }
    }

    pub fn packed(&self) -> Packed {
        self.packed
    }

    /// The next field.
    pub fn field<T: Field>(&mut self, field: &mut T) {
        let (word, shift) = (self.at / 64, self.at % 64);
        // A field never spans two words.
        let (word, shift) = if shift + T::BITS > 64 { (word + 1, 0) } else { (word, shift) };
        self.at = word * 64 + shift + T::BITS;
        if self.reads {
            *field = T::decode((self.packed.0[word] >> shift & ((1 << T::BITS) - 1)) as u8);
        } else {
            self.packed.0[word] |= u64::from(field.encode()) << shift;
        }
    }
}

/// A field of a state.
pub trait Field: Copy {
    const BITS: usize;

    fn encode(self) -> u8;

    fn decode(code: u8) -> Self;
}

impl Field for bool {
    const BITS: usize = 1;

    fn encode(self) -> u8 {
        u8::from(self)
    }

    fn decode(code: u8) -> Self {
        code == 1
    }
}

/// A small number: 0 to 3.
impl Field for u8 {
    const BITS: usize = 2;

    fn encode(self) -> u8 {
        assert!(self < 4, "a number of the model is too large");
        self
    }

    fn decode(code: u8) -> Self {
        code
    }
}

/// Declares an enum without data as a field of the state.
macro_rules! field {
    ($(#[$attribute:meta])* pub enum $name:ident { $($(#[$on:meta])* $variant:ident,)+ }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$on])* $variant,)+ }

        impl $crate::packed::Field for $name {
            const BITS: usize = 3;

            fn encode(self) -> u8 {
                self as u8
            }

            fn decode(code: u8) -> Self {
                const ALL: &[$name] = &[$($name::$variant,)+];
                ALL[usize::from(code)]
            }
        }
    };
}
pub(crate) use field;
