//! Lists of sandboxes, page by page.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use soulbox_model::{Error, Result, SandboxId, TeamId};

use crate::{
    core::Core,
    live::Live,
    page,
    types::{ListFilter, Listed, Order, Page, State},
};

/// Longer ones were not made here.
const TOKEN_BYTES: usize = 128;

/// Where a sandbox stands in a list. It never moves: a start time is for ever, and so a page
/// begins where the one before ended, whatever came or went meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    started_at: DateTime<Utc>,
    id: SandboxId,
}

impl Place {
    fn of(live: &Live) -> Self {
        Self { started_at: live.started_at, id: live.id.clone() }
    }

    fn cmp(&self, other: &Self, order: Order) -> Ordering {
        let by_time = self.started_at.cmp(&other.started_at);
        let by_time = match order {
            Order::Ascending => by_time,
            Order::Descending => by_time.reverse(),
        };
        by_time.then_with(|| self.id.cmp(&other.id))
    }

    fn to_token(&self, order: Order) -> String {
        let micros = self.started_at.timestamp_micros();
        page::to_token(&format!("{micros}.{}.{}", self.id, letter(order)))
    }

    fn from_token(token: &str, order: Order) -> Option<Self> {
        let read = |text: &str| {
            let mut parts = text.split('.');
            let started_at = DateTime::from_timestamp_micros(parts.next()?.parse().ok()?)?;
            let id = parts.next()?.parse().ok()?;
            let same_order = parts.next()? == letter(order) && parts.next().is_none();
            same_order.then_some(Self { started_at, id })
        };
        page::from_token(token, TOKEN_BYTES, read, |place| place.to_token(order))
    }
}

fn letter(order: Order) -> &'static str {
    match order {
        Order::Descending => "d",
        Order::Ascending => "a",
    }
}

impl ListFilter {
    fn matches(&self, live: &Live) -> bool {
        let state = live.state();
        let in_state = match &self.states {
            Some(states) => states.contains(&state),
            None => state == State::Running,
        };
        in_state
            && self.metadata.iter().all(|(key, value)| live.metadata.get(key) == Some(value))
            && self.template.as_deref().is_none_or(|wanted| {
                wanted == live.template_id.as_str() || wanted == live.template_name
            })
            && self.started_after.is_none_or(|after| live.started_at >= after)
    }
}

impl Core {
    pub(crate) fn list(&self, team: TeamId, filter: &ListFilter, page: &Page) -> Result<Listed> {
        if !(1..=Page::MAX).contains(&page.limit) {
            return Err(Error::invalid("limit", "must be 1 to 100"));
        }
        let after = page
            .token
            .as_deref()
            .map(|token| Place::from_token(token, filter.order).ok_or_else(page::not_ours))
            .transpose()?;
        let mut found: Vec<_> = self
            .registry
            .all()
            .into_iter()
            .filter(|live| live.team == team && filter.matches(live))
            .map(|live| (Place::of(&live), live))
            .collect();
        let total_running = found.iter().filter(|(_, live)| live.is_running()).count();
        if let Some(after) = after {
            found.retain(|(place, _)| place.cmp(&after, filter.order) == Ordering::Greater);
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b, filter.order));
        let more = found.len() > page.limit;
        found.truncate(page.limit);
        let next = found.last().filter(|_| more).map(|(place, _)| place.to_token(filter.order));
        let items = found.iter().map(|(_, live)| live.snapshot(self)).collect();
        Ok(Listed { items, next, total_running })
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn place() -> Place {
        Place {
            started_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            id: SandboxId::random(),
        }
    }

    #[test]
    fn a_token_gives_its_place_back() {
        for order in [Order::Ascending, Order::Descending] {
            let place = place();
            assert_eq!(Place::from_token(&place.to_token(order), order), Some(place));
        }
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let token = place().to_token(Order::Descending);
        assert_eq!(Place::from_token(&token, Order::Ascending), None);
        let id = SandboxId::random();
        for text in [
            String::new(),
            format!("1.{id}"),
            format!("1.{id}.d.x"),
            format!("x.{id}.d"),
            format!("+1.{id}.d"),
            format!("1.{id}-6532622b.d"),
            format!("9223372036854775807.{id}.d"),
            "1.iXX.d".to_owned(),
        ] {
            let token = URL_SAFE_NO_PAD.encode(&text);
            assert_eq!(Place::from_token(&token, Order::Descending), None, "{text}");
        }
        for token in ["%", "é", "====", &"A".repeat(4096), &format!("{token}=")] {
            assert_eq!(Place::from_token(token, Order::Descending), None, "{token}");
        }
    }
}
