//! Numbers with units: cores, bytes, times.

use std::time::Duration;

use soulbox_model::{LONGEST_LIFE, Resources};

use super::{Parsed, Wrong};

/// More cores than any machine has that this runs on.
const MAX_CORES: u32 = 1024;

const CORES: &str = "cores as \"1.0\" or \"0.5\", or thousandths as \"500m\", at least 10m";
const BYTES: &str = "a size as \"512MB\" (decimal) or \"512MiB\" (binary)";
const TIME: &str = "a time as \"300s\", \"5m\" or \"1h\"";

/// Decimal units count thousands, binary ones 1024s; the case of letters does not matter but for what
/// would mean bits.
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Longest first, so that `ms` is not minutes.
const TIMES: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

/// Thousandths of a core.
///
/// # Errors
/// For what is no number, is below a hundredth, has more than three decimals, or is above 1024 cores.
pub fn cores(text: &str) -> Parsed<u32> {
    let millis = if let Some(number) = text.strip_suffix('m') {
        digits(number).and_then(|n| u32::try_from(n).ok())
    } else {
        decimal(text, 1000).and_then(|n| u32::try_from(n).ok())
    };
    match millis {
        None => {
            let wrong = Wrong::new("is not a number of cores", CORES);
            let number = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim();
            Err(match decimal(number, 1000) {
                Some(n) if n > 0 && number != text => wrong.instead(number),
                _ => wrong,
            })
        }
        Some(0) => Err(Wrong::new("gives no processor time at all", CORES)),
        Some(n) if n < Resources::LEAST_CPU_MILLIS => {
            Err(Wrong::new("is less than can be measured out", CORES).instead("10m"))
        }
        Some(n) if n > MAX_CORES * 1000 => Err(Wrong::new("is more than 1024 cores", CORES)),
        Some(n) => Ok(n),
    }
}

/// Memory of a sandbox, in bytes.
///
/// # Errors
/// For what is no size, or less or more than a sandbox may have.
pub fn memory(text: &str) -> Parsed<u64> {
    within(bytes(text)?, Resources::LEAST_MEMORY_BYTES, "at least 128MB")
}

/// Disk of a sandbox, in bytes.
///
/// # Errors
/// As of [`memory`].
pub fn disk(text: &str) -> Parsed<u64> {
    within(bytes(text)?, Resources::LEAST_DISK_BYTES, "at least 1MB")
}

fn within(size: u64, least: u64, expected: &'static str) -> Parsed<u64> {
    match size {
        few if few < least => Err(Wrong::new("is too little", expected)),
        many if many > Resources::MOST_BYTES => {
            Err(Wrong::new("is more than any machine has", "at most 1024TiB"))
        }
        enough => Ok(enough),
    }
}

/// Bytes.
///
/// # Errors
/// For what has no number, no unit, or does not fit 63 bits.
pub fn bytes(text: &str) -> Parsed<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    if number.is_empty() {
        return Err(Wrong::new("does not begin with a number", BYTES));
    }
    if unit.is_empty() {
        return Err(Wrong::new("has no unit", BYTES).instead(format!("{number}MB")));
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        let wrong =
            Wrong::new(format!("has no unit that is known: `{unit}`"), BYTES).at(split..text.len());
        return Err(match near_size(unit.trim()) {
            Some(near) => wrong.instead(format!("{number}{near}")),
            None => wrong,
        });
    };
    decimal(number, *factor)
        .filter(|n| i64::try_from(*n).is_ok())
        .ok_or_else(|| Wrong::new("is not a whole number of bytes below 8 EiB", BYTES))
}

/// A time of 1 s to 24 hours.
///
/// # Errors
/// For what has no number, no unit, or is out of that range.
pub fn duration(text: &str) -> Parsed<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let Some(number) = digits(number) else {
        return Err(Wrong::new("does not begin with a whole number", TIME));
    };
    if unit.is_empty() {
        return Err(Wrong::new("has no unit", TIME).instead(format!("{number}s")));
    }
    let Some((_, factor)) = TIMES.iter().find(|(name, _)| *name == unit) else {
        let wrong =
            Wrong::new(format!("has no unit that is known: `{unit}`"), TIME).at(split..text.len());
        let near = unit.trim().chars().next().map(|c| c.to_ascii_lowercase());
        let near = TIMES.iter().find(|(name, _)| near == name.chars().next());
        return Err(match near {
            // Milliseconds are no minutes.
            Some((name, _)) if unit != "ms" => wrong.instead(format!("{number}{name}")),
            _ => wrong,
        });
    };
    let seconds = number.saturating_mul(*factor);
    match Duration::from_secs(seconds) {
        Duration::ZERO => Err(Wrong::new("is no time at all", "at least 1s")),
        long if long > LONGEST_LIFE => Err(Wrong::new("is too long", "at most 24h")),
        fits => Ok(fits),
    }
}

fn near_size(unit: &str) -> Option<&'static str> {
    let upper = unit.to_ascii_uppercase();
    let whole = match upper.as_str() {
        "K" | "M" | "G" | "T" => format!("{upper}B"),
        "KI" | "MI" | "GI" | "TI" => format!("{upper}B"),
        _ => upper,
    };
    SIZES.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(&whole))
}

/// Decimal digits alone, 15 at most.
fn digits(text: &str) -> Option<u64> {
    let plain = (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// `text` times `factor`, exactly; `None` where that is not whole or too large.
fn decimal(text: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = digits(whole)?.checked_mul(factor)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return text.split_once('.').is_none_or(|(_, f)| !f.is_empty()).then_some(whole);
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?.min(16));
    let part = u128::from(digits(fraction)?) * u128::from(factor);
    let part = (part % scale == 0).then(|| u64::try_from(part / scale).ok()).flatten()?;
    whole.checked_add(part)
}

/// In the form that [`cores`] takes.
pub fn show_cores(millis: u32) -> String {
    if millis.is_multiple_of(100) {
        format!("{}.{}", millis / 1000, millis % 1000 / 100)
    } else {
        format!("{millis}m")
    }
}

/// In the form that [`bytes`] takes, with the largest unit that leaves a whole number.
pub fn show_bytes(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes.is_multiple_of(*factor) && bytes >= *factor;
    let best = SIZES.iter().filter(fits).max_by_key(|(_, factor)| *factor);
    let (unit, factor) = best.copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// In the form that [`duration`] takes.
pub fn show_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let best = TIMES
        .iter()
        .rev()
        .find(|(_, factor)| seconds >= *factor && seconds.is_multiple_of(*factor));
    let (unit, factor) = best.copied().unwrap_or(("s", 1));
    format!("{}{unit}", seconds / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cores_are_whole_or_thousandths() {
        for (text, millis) in
            [("1.0", 1000), ("0.5", 500), ("500m", 500), ("2", 2000), ("0.125", 125), ("10m", 10)]
        {
            assert_eq!(cores(text), Ok(millis), "{text}");
        }
        for bad in [
            "", "0", "0.0", "0m", "1m", "9m", "0.009", "-1", "1.", ".5", "1e3", "0.0001", "1.5m",
            "1 ", "1025", "½", "m",
        ] {
            assert!(cores(bad).is_err(), "{bad}");
        }
        assert_eq!(cores("2 cores").unwrap_err().instead.as_deref(), Some("2"));
    }

    #[test]
    fn decimal_and_binary_sizes_differ() {
        for (text, count) in [
            ("512MB", 512_000_000),
            ("512MiB", 512 << 20),
            ("1GB", 1_000_000_000),
            ("1GiB", 1 << 30),
            ("1.5GB", 1_500_000_000),
            ("0.5KiB", 512),
            ("7B", 7),
        ] {
            assert_eq!(bytes(text), Ok(count), "{text}");
        }
        for bad in
            ["", "MB", "512", "512 MB", "512mb", "512Mb", "1.5B", "-1MB", "1..5MB", "9999999TB"]
        {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for (text, instead) in [
            ("512", "512MB"),
            ("512 MB", "512MB"),
            ("1g", "1GB"),
            ("1Gi", "1GiB"),
            ("1gib", "1GiB"),
        ] {
            assert_eq!(bytes(text).unwrap_err().instead.as_deref(), Some(instead), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in
            [("300s", 300), ("5m", 300), ("1h", 3600), ("24h", 86_400), ("1d", 86_400)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "5",
            "0s",
            "5 m",
            "-1s",
            "1.5h",
            "500ms",
            "25h",
            "86401s",
            "2d",
            "999999999999999d",
            "s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("5min").unwrap_err().instead.as_deref(), Some("5m"));
        assert_eq!(duration("500ms").unwrap_err().instead, None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(millis in 10u32..=1_024_000, count in 1u64..1 << 60, s in 1u64..=86_400) {
            prop_assert_eq!(cores(&show_cores(millis)), Ok(millis));
            // 15 digits are as many as are read.
            if count < 1_000_000_000_000_000 {
                prop_assert_eq!(bytes(&show_bytes(count)), Ok(count));
            }
            prop_assert_eq!(duration(&show_duration(Duration::from_secs(s))), Ok(Duration::from_secs(s)));
        }
    }
}
