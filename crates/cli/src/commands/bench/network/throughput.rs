//! How much one flow and many carry, in pairs: directly and through, one after the other.
//!
//! Sender and receiver of both have a processor each, wherever there are two. Left to the scheduler, a
//! direct flow is now on one processor, where every byte is in its cache, and now on two, several times
//! slower; one through the server has three ends and is never on one.

use std::{net::IpAddr, time::Duration};

use rustix::thread::{CpuSet, sched_getaffinity};

use super::{Figure, client::Client, target::Target};
use crate::{
    args::bench,
    commands::{bench::Spread, interrupt::Interrupt},
    failure::{Failure, Result},
    progress::Step,
    settings::Settings,
};

/// Flows of the second throughput.
const MANY: u32 = 50;
/// Rounds that are not counted: they fill caches.
const WARM_UP: u32 = 1;
const NAMES: [[&str; 2]; 2] =
    [["one flow, direct", "one flow, through"], ["50 flows, direct", "50 flows, through"]];

/// Where both ends of each flow run.
struct Placement {
    sender: u32,
    receiver: u32,
}

impl Placement {
    /// The first and the last processor that this process may use: one of its own for each, if there are two.
    fn of_this_machine() -> Result<Self> {
        let may = sched_getaffinity(None)
            .map_err(|error| Failure::io("asking for processors")(error.into()))?;
        let all = 0..u32::try_from(CpuSet::MAX_CPU).unwrap_or(0);
        let mut processors = all.filter(|number| may.is_set(*number as usize));
        let sender = processors.next().unwrap_or(0);
        Ok(Self { sender, receiver: processors.next_back().unwrap_or(sender) })
    }
}

/// MiB per second of one pair.
#[derive(Clone, Copy)]
struct Pair {
    direct: f64,
    through: f64,
}

pub(super) async fn measure(
    settings: &Settings,
    args: &bench::Network,
    address: IpAddr,
    (outside, inside): (&Client<'_>, &Client<'_>),
    interrupt: &Interrupt,
) -> Result<Vec<Figure>> {
    let placement = Placement::of_this_machine()?;
    let target = Target::on_processor(address, placement.sender)?;
    let step = Step::count(&settings.output, u64::from(2 * args.rounds), "moving bytes");
    let mut figures = Vec::new();
    for (flows, names) in [1, MANY].into_iter().zip(NAMES) {
        let mut pairs = Vec::new();
        for round in 0..WARM_UP + args.rounds {
            interrupt.check()?;
            let rate = async |client: &Client<'_>| {
                let size = args.size;
                let took = client.down(target.address, flows, size, placement.receiver).await?;
                Ok::<_, Failure>(rate(size, took))
            };
            // Each comes first as often: a machine that gets slower favours neither.
            let pair = if round % 2 == 0 {
                let direct = rate(outside).await?;
                Pair { direct, through: rate(inside).await? }
            } else {
                let through = rate(inside).await?;
                Pair { direct: rate(outside).await?, through }
            };
            if round >= WARM_UP {
                pairs.push(pair);
                step.advance(1);
            }
        }
        figures.extend(compared(names, &pairs));
    }
    Ok(figures)
}

fn rate(mebibytes: u32, took: Duration) -> f64 {
    f64::from(mebibytes) / took.as_secs_f64()
}

/// Medians with their spread; the ratio is that of the pairs, not of the medians.
fn compared([direct, through]: [&'static str; 2], pairs: &[Pair]) -> [Figure; 2] {
    let of = |figure: fn(&Pair) -> f64| Spread::of(pairs.iter().map(figure).collect());
    let (floor, ours) = (of(|pair| pair.direct), of(|pair| pair.through));
    let ratios = of(|pair| pair.through / pair.direct);
    [
        Figure { spread: Some(floor), ..Figure::new(direct, floor.median, "MiB/s") },
        Figure {
            spread: Some(ours),
            ratio: Some(ratios.median),
            ratio_spread: Some(ratios),
            ..Figure::new(through, ours.median, "MiB/s")
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_pairs_and_one_odd_round_does_not_move_it() {
        let pairs = [(4.0, 2.0), (100.0, 2.0), (2.0, 1.0)];
        let pairs = pairs.map(|(direct, through)| Pair { direct, through });
        let [direct, through] = compared(["a", "b"], &pairs);
        assert_eq!((direct.value, direct.ratio), (4.0, None));
        assert_eq!((through.value, through.ratio), (2.0, Some(0.5)));
        let spread = through.ratio_spread.unwrap();
        assert_eq!((spread.min, spread.max), (0.02, 0.5));
    }
}
