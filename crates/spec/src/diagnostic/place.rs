//! Texts, and places in them as people count.

/// A text that problems are found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A file's path, `--set`, or the name of a variable.
    pub name: String,
    pub text: String,
}

/// Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Source {
    /// Where the byte `at` is; at the end for what lies behind it.
    pub fn position(&self, at: usize) -> Position {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before[start..].chars().count() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let source = Source { name: "x".into(), text: "ä = 1\nbé\"\n".into() };
        let at = |byte| (source.position(byte).line, source.position(byte).column);
        assert_eq!(
            [at(0), at(1), at(2), at(6), at(7), at(8)],
            [(1, 1), (1, 1), (1, 2), (1, 6), (2, 1), (2, 2)]
        );
        assert_eq!(at(1000), (3, 1));
    }
}
