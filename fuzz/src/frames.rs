//! Several parts in one input: each is a byte that says what it is, its length in two bytes (little-endian), and itself.
//! What is cut short ends early, so that every input has a meaning.

/// The parts of an input.
pub(crate) fn frames(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, low, high], rest) = data.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (part, rest) = rest.split_at(length);
        data = rest;
        Some((kind, part))
    })
}

/// One part, as [`frames`] reads it.
///
/// # Panics
/// When it is longer than 65,535 bytes.
pub(crate) fn frame(kind: u8, part: &[u8]) -> Vec<u8> {
    let length = u16::try_from(part.len()).expect("a part of a seed is short");
    [&[kind][..], &length.to_le_bytes(), part].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let whole = [frame(1, b"one"), frame(2, b""), frame(3, b"three")].concat();
        let parts: Vec<_> = frames(&whole).collect();
        assert_eq!(parts, [(1, &b"one"[..]), (2, b""), (3, b"three")]);
        let cut: Vec<_> = frames(&whole[..whole.len() - 2]).collect();
        assert_eq!(cut, [(1, &b"one"[..]), (2, b""), (3, b"thr")]);
        assert_eq!(frames(&[1, 2]).count(), 0);
    }
}
