//! Randomness from the one TLS provider, so that secrets and certificates share a source.

use tokio_rustls::rustls::crypto::aws_lc_rs;

/// The system's random source gave nothing.
#[derive(Debug, thiserror::Error)]
#[error("draw random bytes from the system")]
pub struct NoRandomness;

/// Bytes that nobody can guess.
///
/// # Errors
/// When the system's source does not answer.
pub(crate) fn bytes<const COUNT: usize>() -> Result<[u8; COUNT], NoRandomness> {
    let mut bytes = [0; COUNT];
    aws_lc_rs::default_provider().secure_random.fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
