//! Carries the battery out, one attack after the other.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    attack::{Attack, Fault, Finding, Group, How, Outcome, Who},
    attacks,
    field::Field,
    footing::Footing,
    ground::Ground,
};

/// What came of one attack.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The attack's id; with `-root` or `-user` where it is carried out as both.
    pub id: String,
    pub group: Group,
    pub title: &'static str,
    pub result: Finding,
    /// What was observed, what is broken, or why it was skipped.
    pub why: String,
    /// What holds the attack off.
    pub defence: &'static str,
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub took: Duration,
}

fn milliseconds<S: serde::Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(took.as_millis() as u64)
}

/// Which attacks to carry out.
#[derive(Debug, Clone, Default)]
pub struct Selection(Vec<String>);

/// No attack has this id.
#[derive(Debug, thiserror::Error)]
#[error("there is no attack `{0}`")]
pub struct UnknownAttack(pub String);

impl Selection {
    /// Those with these ids, with or without `-root` or `-user`; all of them for none.
    ///
    /// # Errors
    /// An id that no attack has.
    pub fn of(ids: &[String]) -> Result<Self, UnknownAttack> {
        let selection = Self(ids.to_vec());
        for id in ids {
            let known = |(attack, who): &(Attack, Option<Who>)| {
                attack.id == id || line_id(attack, *who) == *id
            };
            if !every().iter().any(known) {
                return Err(UnknownAttack(id.clone()));
            }
        }
        Ok(selection)
    }

    fn has(&self, attack: &Attack, who: Option<Who>) -> bool {
        let wanted = |id: &String| id == attack.id || *id == line_id(attack, who);
        self.0.is_empty() || self.0.iter().any(wanted)
    }
}

/// What is to be carried out, in order.
#[derive(Debug, Clone)]
pub struct Battery(Vec<(Attack, Option<Who>)>);

impl Battery {
    pub fn new(selection: &Selection) -> Self {
        let mut all = every();
        all.retain(|(attack, who)| selection.has(attack, *who));
        Self(all)
    }

    /// How many lines a run has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn every() -> Vec<(Attack, Option<Who>)> {
    let each = attacks::all().flat_map(|attack| {
        let whom: &[Option<Who>] = match attack.how {
            How::Each(_) => &[Some(Who::Root), Some(Who::User)],
            How::Once(_) | How::Not(_) => &[None],
        };
        whom.iter().map(move |who| (*attack, *who))
    });
    each.collect()
}

fn line_id(attack: &Attack, who: Option<Who>) -> String {
    who.map_or_else(|| attack.id.to_owned(), |who| format!("{}-{}", attack.id, who.name()))
}

/// Carries out the battery on `ground`, telling `begin` each id before and `end` each line after.
///
/// Returns whether it came to its end; it did not if `stop` was set. Sandboxes that it made are
/// ended either way.
pub fn run(
    ground: &Ground,
    battery: &Battery,
    stop: &AtomicBool,
    mut begin: impl FnMut(&str),
    mut end: impl FnMut(Line),
) -> bool {
    let field = Field::new(ground, stop);
    let mut complete = true;
    for (attack, who) in &battery.0 {
        let id = line_id(attack, *who);
        begin(&id);
        let began = Instant::now();
        let outcome = carry_out(&field, attack, *who);
        field.clear();
        let (result, why) = match outcome {
            Ok(why) => (Finding::Held, why),
            Err(Fault::Skipped(why)) => (Finding::Skipped, why),
            Err(Fault::Interrupted) => {
                complete = false;
                break;
            }
            Err(fault) => (Finding::Broken, fault.to_string()),
        };
        end(Line {
            id,
            group: attack.group,
            title: attack.title,
            result,
            why,
            defence: attack.defence,
            took: began.elapsed(),
        });
    }
    field.leave();
    complete
}

fn carry_out(field: &Field<'_>, attack: &Attack, who: Option<Who>) -> Outcome {
    if let How::Not(why) = attack.how {
        return Err(Fault::skipped(why));
    }
    field.check()?;
    // The neighbour is there before the attack and not made in its wake.
    field.neighbour()?;
    let footing = Footing::take();
    let outcome = match attack.how {
        How::Once(attack) => attack(field),
        How::Each(attack) => attack(field, who.unwrap_or(Who::Root)),
        How::Not(why) => Err(Fault::skipped(why)),
    };
    let why = outcome?;
    footing.compare(field)?;
    Ok(why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_has_an_id_of_its_own_that_says_its_group() {
        let mut seen = BTreeSet::new();
        for (attack, who) in every() {
            let id = line_id(&attack, who);
            assert!(seen.insert(id.clone()), "{id} twice");
            let word = id.split('-').next().unwrap();
            assert!(attack.group.name().starts_with(word), "{id} is of {}", attack.group.name());
            assert!(!attack.title.is_empty() && !attack.defence.is_empty(), "{id}");
        }
    }

    #[test]
    fn a_selection_is_by_attack_or_by_line() {
        assert_eq!(Battery::new(&Selection::default()).len(), every().len());
        let of = |id: &str| Selection::of(&[id.to_owned()]).map(|some| Battery::new(&some).len());
        assert_eq!(of("kernel-clone3").unwrap(), 2);
        assert_eq!(of("kernel-clone3-user").unwrap(), 1);
        assert!(of("kernel-no-such").is_err());
    }
}
