//! How far mmdebstrap is, read from what it writes.

/// One phase of a build: the line that starts it, and the percentages that it covers.
struct Phase {
    starts: &'static str,
    step: &'static str,
    from: u8,
    to: u8,
}

/// The shares are those of a build with a fast mirror (50 s on two cores).
const PHASES: [Phase; 7] = [
    Phase { starts: "I: running apt-get update", step: "package lists", from: 1, to: 4 },
    Phase { starts: "I: downloading packages", step: "downloading", from: 4, to: 6 },
    Phase { starts: "I: extracting archives", step: "extracting", from: 6, to: 18 },
    Phase { starts: "I: installing essential", step: "essential packages", from: 18, to: 30 },
    Phase { starts: "I: installing remaining", step: "packages", from: 30, to: 94 },
    Phase { starts: "I: running --customize-hook", step: "users and settings", from: 94, to: 96 },
    Phase { starts: "I: cleaning", step: "cleaning", from: 96, to: 98 },
];

/// Lines of apt and dpkg that stand for one package, and the share of its phase that fetching,
/// unpacking and configuring take.
const WORK: [(&str, &str, f64); 3] = [
    ("Get:", "fetching", 0.1),
    ("Unpacking ", "unpacking", 0.45),
    ("Setting up ", "installing", 0.45),
];

#[derive(Debug, Default)]
pub(super) struct Phases {
    phase: Option<usize>,
    /// Packages that the phase installs.
    packages: usize,
    seen: [usize; WORK.len()],
}

impl Phases {
    /// Takes the next line; says what is being done when that has changed.
    pub fn read(&mut self, line: &str) -> Option<(u8, String)> {
        if let Some(index) = PHASES.iter().position(|phase| line.starts_with(phase.starts)) {
            *self = Self { phase: Some(index), ..Self::default() };
            let phase = &PHASES[index];
            return Some((phase.from, phase.step.to_owned()));
        }
        if let Some(count) = newly_installed(line) {
            self.packages = count;
            return None;
        }
        let phase = &PHASES[self.phase?];
        let kind = WORK.iter().position(|(start, ..)| line.starts_with(start))?;
        let (start, verb, _) = WORK[kind];
        self.seen[kind] += 1;
        if self.packages == 0 {
            return None;
        }
        let done: f64 = WORK
            .iter()
            .zip(self.seen)
            .map(|((_, _, share), seen)| share * (seen as f64 / self.packages as f64).min(1.0))
            .sum();
        let percent = f64::from(phase.from) + done.min(1.0) * f64::from(phase.to - phase.from);
        let words = line.strip_prefix(start).unwrap_or_default();
        // `Get:7 http://… bookworm/main amd64 git amd64 1:2.39` names the package fifth.
        let word = if kind == 0 { 4 } else { 0 };
        let package = words.split_whitespace().nth(word).unwrap_or_default();
        Some((percent as u8, format!("{verb} {}", package.trim_end_matches(':'))))
    }
}

/// `0 upgraded, 457 newly installed, 0 to remove and 0 not upgraded.`
fn newly_installed(line: &str) -> Option<usize> {
    let (before, _) = line.split_once(" newly installed")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Vec<(u8, String)> {
        let mut phases = Phases::default();
        lines.iter().filter_map(|line| phases.read(line)).collect()
    }

    #[test]
    fn a_build_goes_from_its_first_phase_to_its_last() {
        let seen = read(&[
            "I: chroot architecture amd64 is equal to the host's architecture",
            "I: running apt-get update...",
            "Get:1 http://mirror/debian bookworm InRelease [151 kB]",
            "I: installing remaining packages inside the chroot...",
            "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
            "Get:1 http://mirror/debian bookworm/main amd64 git amd64 1:2.39.5 [7256 kB]",
            "Unpacking git (1:2.39.5) ...",
            "Setting up git (1:2.39.5) ...",
            "Get:2 http://mirror/debian bookworm/main amd64 less amd64 590 [132 kB]",
            "Unpacking less (590) ...",
            "Setting up less (590) ...",
            "I: cleaning package lists and apt cache...",
        ]);
        let steps: Vec<_> = seen.iter().map(|(percent, step)| (*percent, step.as_str())).collect();
        assert_eq!(
            steps,
            [
                (1, "package lists"),
                (30, "packages"),
                (33, "fetching git"),
                (47, "unpacking git"),
                (62, "installing git"),
                (65, "fetching less"),
                (79, "unpacking less"),
                (94, "installing less"),
                (96, "cleaning"),
            ]
        );
    }

    #[test]
    fn more_lines_than_announced_do_not_leave_the_phase() {
        let mut lines = vec!["I: installing remaining", "0 upgraded, 1 newly installed, 0"];
        lines.extend(["Setting up a (1) ..."; 9]);
        assert!(read(&lines).iter().all(|(percent, _)| *percent <= 94));
    }
}
