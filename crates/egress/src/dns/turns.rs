//! Whose question is asked outside next.
//!
//! Sandboxes share the places for questions under way. When all are taken, the oldest question of the
//! sandbox that has most gives way to a new one: what waits longest is likeliest never answered. So
//! none waits for the questions of others, however many those ask that nobody answers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    io, ptr,
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// Questions of one sandbox: so many a second, and so many at once.
const RATE: f64 = 100.0;
const BURST: f64 = 400.0;
/// Questions of one sandbox that wait for an answer from outside.
const AT_ONCE: usize = 32;

/// What keeps the questions of one sandbox from taking the name service of the others: those of
/// programs inside, and those that connecting by name asks.
#[derive(Debug)]
pub(crate) struct Turns {
    bucket: Mutex<(f64, Instant)>,
    at_once: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self { bucket: Mutex::new((BURST, Instant::now())), at_once: Semaphore::new(AT_ONCE) }
    }
}

impl Turns {
    /// Counts one question.
    pub(super) fn take(&self) -> bool {
        let mut state = self.bucket.lock();
        let now = Instant::now();
        let (left, since) = *state;
        let left = (left + (now - since).as_secs_f64() * RATE).min(BURST);
        let granted = left >= 1.0;
        *state = (if granted { left - 1.0 } else { left }, now);
        granted
    }

    /// Waits until few enough others wait.
    pub(super) async fn wait(&self) -> io::Result<SemaphorePermit<'_>> {
        self.at_once.acquire().await.map_err(io::Error::other)
    }
}

/// Places for questions under way.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// One that gives way has its place until its socket is closed.
    free: Semaphore,
    asking: Mutex<Asking>,
}

/// Questions under way, or about to be.
#[derive(Debug, Default)]
struct Asking {
    next: u64,
    count: usize,
    /// Of each sandbox, by age.
    of: HashMap<Sandbox, BTreeMap<u64, CancellationToken>>,
}

/// Where the turns of a sandbox are, which stay there while one of its questions is under way.
type Sandbox = usize;

/// The place of one question.
struct Place<'a> {
    places: &'a Places,
    sandbox: Sandbox,
    number: u64,
    gives_way: CancellationToken,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, free: Semaphore::new(most), asking: Mutex::default() }
    }

    /// Asks a question of a sandbox.
    ///
    /// # Errors
    /// Those of the question, or that it has to give way.
    pub(super) async fn within<T>(
        &self,
        own: &Turns,
        question: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let place = self.take(own);
        tokio::select! {
            biased;
            () = place.gives_way.cancelled() => {
                Err(io::Error::other("it gave way to others, since too many are under way"))
            }
            answer = async {
                let _free = self.free.acquire().await.map_err(io::Error::other)?;
                question.await
            } => answer,
        }
    }

    fn take(&self, own: &Turns) -> Place<'_> {
        let sandbox = ptr::from_ref(own).addr();
        let gives_way = CancellationToken::new();
        let mut asking = self.asking.lock();
        if asking.count == self.most {
            asking.make_way(sandbox);
        }
        let number = asking.next;
        asking.next += 1;
        asking.count += 1;
        asking.of.entry(sandbox).or_default().insert(number, gives_way.clone());
        Place { places: self, sandbox, number, gives_way }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.asking.lock().remove(self.sandbox, self.number);
    }
}

impl Asking {
    fn remove(&mut self, sandbox: Sandbox, number: u64) -> Option<CancellationToken> {
        let questions = self.of.get_mut(&sandbox)?;
        let removed = questions.remove(&number)?;
        self.count -= 1;
        if questions.is_empty() {
            self.of.remove(&sandbox);
        }
        Some(removed)
    }

    fn make_way(&mut self, own: Sandbox) {
        let held = self.of.iter().filter_map(|(sandbox, questions)| {
            Some((questions.len(), Reverse(*questions.first_key_value()?.0), *sandbox))
        });
        let Some((most, Reverse(oldest), largest)) = held.max() else { return };
        // Who would have more than it leaves to the other gives up one of its own.
        let enough = self.of.get(&own).filter(|questions| questions.len() + 1 >= most);
        let (sandbox, number) = match enough.and_then(BTreeMap::first_key_value) {
            Some((number, _)) => (own, *number),
            None => (largest, oldest),
        };
        if let Some(question) = self.remove(sandbox, number) {
            question.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn questions_are_counted() {
        let turns = Turns::default();
        let granted = (0..1000).filter(|_| turns.take()).count();
        assert!((400..450).contains(&granted), "{granted}");
    }

    /// Sandboxes of a server that has few places.
    struct Server {
        places: Places,
        turns: Vec<Turns>,
        open: AtomicUsize,
    }

    impl Server {
        fn new(places: usize, sandboxes: usize) -> Arc<Self> {
            let turns = (0..sandboxes).map(|_| Turns::default()).collect();
            Arc::new(Self { places: Places::new(places), turns, open: AtomicUsize::default() })
        }

        /// Asks what is never answered, and whether it had to give way.
        async fn ask(self: Arc<Self>, sandbox: usize) -> usize {
            struct Socket<'a>(&'a AtomicUsize);
            impl Drop for Socket<'_> {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::Relaxed);
                }
            }
            let asking = async {
                let before = self.open.fetch_add(1, Ordering::Relaxed);
                let _socket = Socket(&self.open);
                assert!(before < self.places.most, "more sockets than places");
                std::future::pending::<io::Result<()>>().await
            };
            assert!(self.places.within(&self.turns[sandbox], asking).await.is_err());
            sandbox
        }

        fn held(&self) -> Vec<usize> {
            let asking = self.places.asking.lock();
            let held = |turns: &Turns| {
                asking.of.get(&ptr::from_ref(turns).addr()).map_or(0, BTreeMap::len)
            };
            self.turns.iter().map(held).collect()
        }
    }

    async fn settled() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_most_gives_way_and_each_gets_its_share() {
        let server = Server::new(12, 5);
        let mut questions = JoinSet::new();
        for _ in 0..20 {
            questions.spawn(Arc::clone(&server).ask(0));
        }
        settled().await;
        assert_eq!(server.held(), [12, 0, 0, 0, 0]);
        for round in 0..40 {
            let hostile = if round < 20 { 4 } else { 5 };
            for sandbox in (0..hostile).flat_map(|sandbox| [sandbox; 3]) {
                questions.spawn(Arc::clone(&server).ask(sandbox));
            }
            settled().await;
            let held = server.held();
            assert_eq!((held.iter().sum::<usize>(), server.open.load(Ordering::Relaxed)), (12, 12));
            assert!(held.iter().take(hostile).all(|held| (2..=3).contains(held)), "{held:?}");
        }
        questions.shutdown().await;
        assert_eq!(server.held(), [0; 5]);
        assert_eq!(
            (server.places.asking.lock().count, server.places.free.available_permits()),
            (0, 12)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_with_most_the_oldest_question_gives_way() {
        let server = Server::new(4, 3);
        let mut questions = JoinSet::new();
        for sandbox in [1, 0, 0, 1, 2] {
            questions.spawn(Arc::clone(&server).ask(sandbox));
            settled().await;
        }
        let gave_way = tokio::time::timeout(Duration::from_secs(1), questions.join_next()).await;
        assert_eq!(gave_way.unwrap().unwrap().unwrap(), 1);
        assert_eq!(server.held(), [2, 1, 1]);
    }
}
