//! Lists, filters, pages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use soulbox_control::{Create, ListFilter, Listed, Order, Page, Sandbox, State};
use soulbox_model::TeamId;

use crate::world::{World, map, request, status};

async fn pages(world: &World, filter: &ListFilter, limit: usize) -> Vec<Listed> {
    let mut pages: Vec<Listed> = Vec::new();
    loop {
        let token = pages.last().and_then(|page| page.next.clone());
        if !pages.is_empty() && token.is_none() {
            return pages;
        }
        let page = Page { limit, token };
        pages.push(world.control.list(world.team, filter.clone(), page).await.unwrap());
        assert!(pages.len() < 1000, "no end of pages");
    }
}

fn flat(pages: &[Listed]) -> Vec<Sandbox> {
    pages.iter().flat_map(|page| page.items.clone()).collect()
}

/// What a list must be, told the simple way.
fn expected(all: &[Sandbox], filter: &ListFilter) -> Vec<Sandbox> {
    let mut found: Vec<_> = all
        .iter()
        .filter(|s| filter.metadata.iter().all(|(k, v)| s.metadata.get(k) == Some(v)))
        .filter(|s| filter.started_after.is_none_or(|after| s.started_at >= after))
        .filter(|s| filter.states.as_ref().is_none_or(|states| states.contains(&s.state)))
        .cloned()
        .collect();
    found.sort_by(|a, b| {
        let by_time = match filter.order {
            Order::Descending => b.started_at.cmp(&a.started_at),
            Order::Ascending => a.started_at.cmp(&b.started_at),
        };
        by_time.then(a.id.cmp(&b.id))
    });
    found
}

fn small_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("[ab]", "[xy]", 0..3)
}

#[test]
fn pages_are_the_list_cut_in_pieces() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (world, all) = runtime.block_on(async {
        let world = World::new().await;
        let mut all = Vec::new();
        for i in 0..24 {
            let mut metadata = BTreeMap::new();
            for (bit, key, value) in [(1, "a", "x"), (2, "b", "y"), (4, "a", "y"), (8, "b", "x")] {
                if i & bit != 0 {
                    metadata.insert(key.to_owned(), value.to_owned());
                }
            }
            let asked = Create { metadata, ..request(600) };
            all.push(world.control.create(world.team, asked).await.unwrap());
        }
        (world, all)
    });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) };
    proptest!(config, |(
        metadata in small_map(),
        limit in 1usize..30,
        ascending: bool,
        after in proptest::option::of(0usize..24),
        states in proptest::option::of(proptest::sample::subsequence(
            vec![State::Creating, State::Running, State::Ending], 0..=3,
        )),
    )| {
        let filter = ListFilter {
            metadata,
            order: if ascending { Order::Ascending } else { Order::Descending },
            started_after: after.map(|i| all[i].started_at),
            states: states.map(BTreeSet::from_iter),
            template: None,
        };
        let pages = runtime.block_on(pages(&world, &filter, limit));
        let expected = expected(&all, &filter);
        prop_assert_eq!(flat(&pages), expected.clone());
        for page in &pages {
            prop_assert!(page.items.len() <= limit);
            prop_assert_eq!(page.total_running, expected.len());
        }
        prop_assert_eq!(pages.len(), expected.len().div_ceil(limit).max(1));
    });
}

#[tokio::test]
async fn pages_stay_in_place_while_sandboxes_come_and_go() {
    let world = World::new().await;
    let mut all = Vec::new();
    for _ in 0..9 {
        all.push(world.create(600).await);
    }
    all.reverse();
    let filter = ListFilter::default();
    let list = |token| world.control.list(world.team, filter.clone(), Page { limit: 3, token });
    let first = list(None).await.unwrap();
    assert_eq!(first.items, all[..3]);
    // The one that the token names, one that is still to come, and new ones.
    world.control.kill(world.team, &all[2].id).await.unwrap();
    world.control.kill(world.team, &all[4].id).await.unwrap();
    world.create(600).await;
    let second = list(first.next).await.unwrap();
    assert_eq!(second.items, [all[3].clone(), all[5].clone(), all[6].clone()]);
    let third = list(second.next).await.unwrap();
    assert_eq!((third.items, third.next), (all[7..].to_vec(), None));
}

#[tokio::test]
async fn a_list_shows_what_is_asked_for() {
    let world = World::new().await;
    let asked = Create { metadata: map([("k", "v"), ("l", "w")]), ..request(600) };
    let tagged = world.control.create(world.team, asked).await.unwrap();
    let plain = world.create(600).await;
    let list = async |filter: ListFilter, team: TeamId| {
        world.control.list(team, filter, Page::default()).await.unwrap().items
    };
    let all = ListFilter::default();
    assert_eq!(list(all.clone(), world.team).await, [plain.clone(), tagged.clone()]);
    assert!(list(all.clone(), TeamId::random()).await.is_empty());
    let metadata = |pairs| ListFilter { metadata: pairs, ..ListFilter::default() };
    assert_eq!(list(metadata(map([("k", "v")])), world.team).await, [tagged]);
    assert!(list(metadata(map([("k", "w")])), world.team).await.is_empty());
    let template = |name: &str| ListFilter { template: Some(name.into()), ..all.clone() };
    assert_eq!(list(template("host"), world.team).await.len(), 2);
    assert!(list(template("base"), world.team).await.is_empty());
    world.control.kill(world.team, &plain.id).await.unwrap();
    assert_eq!(list(all, world.team).await.len(), 1);
}

#[tokio::test]
async fn a_bad_page_is_refused() {
    let world = World::new().await;
    for _ in 0..2 {
        world.create(600).await;
    }
    let list = |filter: ListFilter, limit, token: Option<&str>| {
        let token = token.map(str::to_owned);
        world.control.list(world.team, filter, Page { limit, token })
    };
    let all = ListFilter::default();
    for limit in [0, 101] {
        assert_eq!(status(list(all.clone(), limit, None).await), 400);
    }
    let token = list(all.clone(), 1, None).await.unwrap().next.unwrap();
    let upward = ListFilter { order: Order::Ascending, ..all.clone() };
    assert_eq!(status(list(upward, 1, Some(&token)).await), 400);
    for bad in ["", "x", &token[1..], &format!("{token}="), "' OR 1=1 --"] {
        assert_eq!(status(list(all.clone(), 1, Some(bad)).await), 400, "{bad}");
    }
}
