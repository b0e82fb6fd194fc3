//! Lines as the container wrote them, from the parts that containerd made of them.

/// The longest line that is joined; containerd's parts have 16 KiB. What is longer is handed out in pieces.
const LINE_LIMIT_BYTES: usize = 1 << 20;

/// Joins the parts of long lines, of each stream for itself.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Joiner {
    /// A line of the file; answers a line of the container once it is whole.
    pub(super) fn take(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (_time, stream, tags) = (fields.next()?, fields.next()?, fields.next()?);
        let text = fields.next().unwrap_or_default();
        let pending = match stream {
            b"stdout" => &mut self.stdout,
            b"stderr" => &mut self.stderr,
            _ => return None,
        };
        pending.extend_from_slice(text);
        let is_part = tags.split(|byte| *byte == b':').next() == Some(b"P");
        if is_part && pending.len() < LINE_LIMIT_BYTES {
            return None;
        }
        let mut whole = std::mem::take(pending);
        if !is_part {
            whole.push(b'\n');
        }
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_log_is_passed_over() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.take(b"garbage\n"), None);
        assert_eq!(joiner.take(b"t nostream F x\n"), None);
        assert_eq!(joiner.take(b"t stdout F:tag x y\n"), Some(b"x y\n".to_vec()));
    }
}
