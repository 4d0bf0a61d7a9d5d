//! Random numbers from the operating system.

/// 64 random bits.
///
/// # Panics
/// The system has no source of random numbers. The standard library's hash maps panic there, too.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    getrandom::getrandom(&mut bytes).expect("the system gives random numbers");
    u64::from_ne_bytes(bytes)
}

/// 128 random bits as 32 hexadecimal digits: an id that no other machine has.
pub fn random_id() -> String {
    format!("{:016x}{:016x}", random_u64(), random_u64())
}
