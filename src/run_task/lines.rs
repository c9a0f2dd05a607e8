//! [`Lines`]: the output of a program, cut into lines that get a prefix each.

/// The longest line that is held back until it is complete, in bytes. The beginning of a longer one is passed on.
const LONGEST: usize = 1 << 20;

/// Puts a prefix before each line. Lines end in `\n`, `\r\n` or `\r`, all of which become `\n`.
#[derive(Debug, Default)]
pub struct Lines {
    /// A line that is not complete.
    pending: Vec<u8>,
    /// Its beginning has been passed on.
    begun: bool,
    /// The last byte was a `\r`, whose line has been passed on; a `\n` now would belong to it.
    returned: bool,
    /// What is not shown.
    secrets: Vec<String>,
}

impl Lines {
    /// Begins, and puts `…` in the place of each of these texts, the first ones first.
    #[must_use]
    pub fn without(secrets: &[String]) -> Self {
        Self {
            secrets: secrets
                .iter()
                .filter(|secret| !secret.is_empty())
                .cloned()
                .collect(),
            ..Self::default()
        }
    }

    /// Takes more of the output, and passes on what is complete, with `prefix` before each line.
    pub fn push(&mut self, bytes: &[u8], prefix: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            let belongs = self.returned && byte == b'\n';
            self.returned = byte == b'\r';
            match byte {
                b'\n' if belongs => {}
                b'\n' | b'\r' => {
                    self.pass_on(prefix, out);
                    out.push(b'\n');
                    self.begun = false;
                }
                _ => self.pending.push(byte),
            }
            if self.pending.len() >= LONGEST {
                self.pass_on(prefix, out);
                self.begun = true;
            }
        }
    }

    /// Passes on a last line that no line end has followed.
    pub fn finish(&mut self, prefix: &[u8], out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.pass_on(prefix, out);
        }
    }

    fn pass_on(&mut self, prefix: &[u8], out: &mut Vec<u8>) {
        if !self.begun {
            out.extend_from_slice(prefix);
        }
        for secret in &self.secrets {
            hide(secret.as_bytes(), &mut self.pending);
        }
        out.append(&mut self.pending);
    }
}

/// Puts `…` in the place of a text.
fn hide(secret: &[u8], line: &mut Vec<u8>) {
    let mut from = 0;
    while let Some(at) = line[from..]
        .windows(secret.len())
        .position(|text| text == secret)
    {
        let at = from + at;
        line.splice(at..at + secret.len(), "…".bytes());
        from = at + "…".len();
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Lines};

    /// What becomes of some output that arrives in these pieces.
    fn prefixed(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, b"> ", &mut out);
        }
        lines.finish(b"> ", &mut out);
        out
    }

    #[test]
    fn all_line_ends_become_one() {
        let expected = b"> a\n> b\n> c\n> \n> d";
        assert_eq!(prefixed(&[b"a\nb\r\nc\r\rd"]), expected);
        let bytes: Vec<&[u8]> = b"a\nb\r\nc\r\rd".chunks(1).collect();
        assert_eq!(prefixed(&bytes), expected);
        assert_eq!(prefixed(&[b"a\r", b"", b"\n\n\xff"]), b"> a\n> \n> \xff");
        assert_eq!(prefixed(&[]), b"");
    }

    #[test]
    fn a_carriage_return_ends_a_line_at_once() {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        lines.push(b"10 %\r", b"> ", &mut out);
        assert_eq!(out, b"> 10 %\n");
    }

    #[test]
    fn secrets_are_not_passed_on() {
        let secrets = ["me:s3cret", "s3cret", ""].map(str::to_owned);
        let (mut lines, mut out) = (Lines::without(&secrets), Vec::new());
        for piece in ["http://me:s3", "cret@h\rs3crets3cret me\ns3cre", "t"] {
            lines.push(piece.as_bytes(), b"> ", &mut out);
        }
        lines.finish(b"> ", &mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, "> http://…@h\n> …… me\n> …");
    }

    #[test]
    fn endless_lines_are_not_held_back() {
        let long = vec![b'x'; LONGEST + 1];
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        lines.push(&long, b"> ", &mut out);
        assert_eq!(out.len(), LONGEST + 2);
        lines.push(b"y\nz\n", b"> ", &mut out);
        assert!(out.ends_with(b"xxy\n> z\n"));
    }
}
