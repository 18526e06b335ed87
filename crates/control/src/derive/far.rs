//! How far a preparation came, for who waited until its time was over.

use std::time::Duration;

use parking_lot::Mutex;

/// Parts that begin one after the other.
#[derive(Debug)]
pub(super) struct Far {
    parts: usize,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// The number of the part that began last, from 1.
    part: usize,
    /// What it does.
    doing: String,
    /// What it said last.
    said: String,
}

impl Far {
    pub(super) fn of(parts: usize) -> Self {
        Self { parts, now: Mutex::default() }
    }

    /// The next part begins.
    pub(super) fn begin(&self, doing: &str) {
        let mut now = self.now.lock();
        *now = Now { part: now.part + 1, doing: doing.to_owned(), said: String::new() };
    }

    /// The part that is under way says something.
    pub(super) fn hear(&self, line: &str) {
        line.clone_into(&mut self.now.lock().said);
    }

    /// In a line, and one more for what was said last.
    pub(super) fn told(&self, within: Duration) -> String {
        let now = self.now.lock();
        let limit = format!("not done within {} s", within.as_secs());
        if now.part == 0 {
            return format!("{limit}: nothing had begun");
        }
        let said = if now.said.is_empty() { "it had said nothing" } else { &now.said };
        format!(
            "{limit}: {}, part {} of {}, was under way\n{said}",
            now.doing, now.part, self.parts
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_of_the_part_under_way() {
        let (far, within) = (Far::of(3), Duration::from_secs(9));
        assert_eq!(far.told(within), "not done within 9 s: nothing had begun");
        far.begin("unpacking");
        far.hear("one");
        assert_eq!(
            far.told(within),
            "not done within 9 s: unpacking, part 1 of 3, was under way\none"
        );
        far.begin("running npm");
        assert!(
            far.told(within)
                .ends_with("running npm, part 2 of 3, was under way\nit had said nothing")
        );
    }
}
