//! Which files of a sandbox are wanted.

/// Directories on the way to a file, and its name.
pub const MAX_DEPTH: usize = 16;

/// A path relative to where a program runs; `*` and `?` stand for parts of one name, and not for the dot that
/// a name begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Err("it begins with /: name it from where the program runs, /home/user".into());
        }
        let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        if parts.is_empty() {
            return Err("it names nothing: use `*` for all that there is".into());
        }
        if parts.iter().any(|part| part == "..") {
            return Err("it leads out of where the program runs".into());
        }
        if parts.len() > MAX_DEPTH || text.contains(char::is_control) {
            return Err("it is no path that an artifact can have".into());
        }
        Ok(Self(parts))
    }

    /// One for each name on the way.
    pub fn parts(&self) -> &[String] {
        &self.0
    }
}

/// Whether `name` is one that `part` of a pattern stands for. Takes time in proportion to the product of
/// their lengths at most, whatever the name.
pub fn matches(part: &str, name: &str) -> bool {
    let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
    if name.first() == Some(&'.') && part.first() != Some(&'.') {
        return false;
    }
    let (mut at, mut in_name) = (0, 0);
    // The last star, and what of the name it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match part.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((before, taken)) = star else { return false };
                star = Some((before, taken + 1));
                at = before + 1;
                in_name = taken + 1;
            }
        }
    }
    part[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stays_below_where_the_program_runs() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", ".", "a\nb", &"d/".repeat(17)] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Pattern::parse("./a//b/").unwrap().parts(), ["a", "b"]);
    }

    #[test]
    fn stars_stand_for_parts_of_a_name() {
        for (part, name) in [
            ("*", "a"),
            ("*.png", "a.png"),
            ("a*b*c", "axxbxbxc"),
            ("?b", "ab"),
            (".*", ".a"),
            ("a", "a"),
        ] {
            assert!(matches(part, name), "{part} {name}");
        }
        for (part, name) in
            [("*", ".a"), ("?a", ".a"), ("*.png", "a.pn"), ("a", "ab"), ("a?", "a"), ("a*b", "abc")]
        {
            assert!(!matches(part, name), "{part} {name}");
        }
    }

    #[test]
    fn a_hostile_name_takes_no_time() {
        assert!(!matches(&"*a".repeat(50), &"a".repeat(40)));
        assert!(!matches(&("*a".repeat(100) + "b"), &"a".repeat(255)));
    }
}
