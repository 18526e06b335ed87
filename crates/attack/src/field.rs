//! One run of the battery: its sandboxes, and the API as the team that attacks sees it.

use std::{
    cell::RefCell,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    attack::{Fault, Who},
    ground::Ground,
    http::{Answer, Request},
    sandbox::Sandbox,
};

/// Sandboxes of a run end by themselves soon after it, whatever happens to it.
const LIFE_SECONDS: u32 = 900;
/// How often to look at the interrupt while waiting.
const GLANCE: Duration = Duration::from_millis(50);

/// What an attack works with.
#[derive(Debug)]
pub struct Field<'a> {
    pub(crate) ground: &'a Ground,
    stop: &'a AtomicBool,
    shared: RefCell<Option<Sandbox>>,
    neighbour: RefCell<Option<Sandbox>>,
    /// Of the attack that runs now.
    made: RefCell<Vec<Sandbox>>,
}

impl<'a> Field<'a> {
    pub(crate) fn new(ground: &'a Ground, stop: &'a AtomicBool) -> Self {
        Self {
            ground,
            stop,
            shared: RefCell::default(),
            neighbour: RefCell::default(),
            made: RefCell::default(),
        }
    }

    /// # Errors
    /// [`Fault::Interrupted`] when somebody asked to stop.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) { Err(Fault::Interrupted) } else { Ok(()) }
    }

    /// Waits, unless somebody asks to stop.
    pub(crate) fn rest(&self, time: Duration) -> Result<(), Fault> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            std::thread::sleep(GLANCE.min(time));
        }
        Ok(())
    }

    /// Asks again and again until it is so.
    pub(crate) fn until(
        &self,
        within: Duration,
        mut so: impl FnMut() -> bool,
    ) -> Result<bool, Fault> {
        let end = Instant::now() + within;
        loop {
            if so() {
                return Ok(true);
            }
            if Instant::now() > end {
                return Ok(false);
            }
            self.check()?;
            std::thread::sleep(GLANCE);
        }
    }

    /// For attacks that break nothing of their own sandbox.
    pub(crate) fn shared(&self) -> Result<Sandbox, Fault> {
        self.lasting(&self.shared)
    }

    /// Is attacked and never attacks.
    pub(crate) fn neighbour(&self) -> Result<Sandbox, Fault> {
        self.lasting(&self.neighbour)
    }

    fn lasting(&self, slot: &RefCell<Option<Sandbox>>) -> Result<Sandbox, Fault> {
        if let Some(sandbox) = slot.borrow().as_ref().filter(|known| known.is_well()) {
            return Ok(sandbox.clone());
        }
        let made = self.create(json!({}))?;
        if let Some(worn) = slot.replace(Some(made.clone())) {
            self.kill(&worn)?;
        }
        Ok(made)
    }

    /// A new sandbox that ends with the attack.
    pub(crate) fn fresh(&self) -> Result<Sandbox, Fault> {
        self.fresh_with(json!({}))
    }

    /// The same with more in the request.
    pub(crate) fn fresh_with(&self, more: Value) -> Result<Sandbox, Fault> {
        let made = self.create(more)?;
        self.made.borrow_mut().push(made.clone());
        Ok(made)
    }

    fn create(&self, more: Value) -> Result<Sandbox, Fault> {
        self.check()?;
        let mut body = json!({"templateID": self.ground.template, "timeout": LIFE_SECONDS});
        if let (Some(all), Some(more)) = (body.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        let answer = self.ask("POST", "/v2/sandboxes", Some(&self.ground.key), Some(&body))?;
        self.taken(&answer)
    }

    /// The sandbox that a create answered with.
    pub(crate) fn taken(&self, answer: &Answer) -> Result<Sandbox, Fault> {
        let made = answer.json().unwrap_or_default();
        match (made["sandboxID"].as_str(), made["envdAccessToken"].as_str()) {
            (Some(id), Some(token)) => {
                Ok(Sandbox::new(id.to_owned(), token.to_owned(), self.ground.address))
            }
            _ => Err(Fault::failed(format!("no sandbox: {} {}", answer.status, answer.text()))),
        }
    }

    /// Whether it was there to be ended.
    pub(crate) fn kill(&self, sandbox: &Sandbox) -> io::Result<bool> {
        let path = format!("/sandboxes/{}", sandbox.id());
        Ok(self.ask("DELETE", &path, Some(&self.ground.key), None)?.status == 204)
    }

    /// A request to the API. Requests that may carry a body always do.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let mut request = Request::new(method, path);
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        if matches!(method, "POST" | "PUT" | "PATCH") || body.is_some() {
            let text = body.map_or_else(|| "{}".to_owned(), Value::to_string);
            request = request.body("application/json", text);
        }
        request.send(self.ground.address)
    }

    /// The same as ourselves.
    pub(crate) fn api(&self, method: &str, path: &str) -> io::Result<Answer> {
        self.ask(method, path, Some(&self.ground.key), None)
    }

    /// What the API says about a sandbox.
    pub(crate) fn about(&self, sandbox: &Sandbox) -> Result<Value, Fault> {
        Ok(self.api("GET", &format!("/sandboxes/{}", sandbox.id()))?.json()?)
    }

    /// How long a command of the neighbour takes; broken if it takes longer than `most`.
    pub(crate) fn neighbour_answers(&self, most: Duration) -> Result<Duration, Fault> {
        let neighbour = self.neighbour()?;
        let began = Instant::now();
        let said = neighbour.says("echo fine", Who::User);
        let took = began.elapsed();
        match said {
            Ok(said) if said == "fine" && took <= most => Ok(took),
            Ok(said) if said == "fine" => {
                Err(Fault::broken(format!("the neighbour's command took {took:?}")))
            }
            other => Err(Fault::broken(format!("the neighbour's command failed: {other:?}"))),
        }
    }

    /// Ends the sandboxes of one attack.
    pub(crate) fn clear(&self) {
        for sandbox in self.made.take() {
            // Those that an attack ended itself are gone already.
            let _ = self.kill(&sandbox);
        }
    }

    /// Ends all that is left.
    pub(crate) fn leave(&self) {
        self.clear();
        for sandbox in self.shared.take().into_iter().chain(self.neighbour.take()) {
            // The server may be gone; then there is nothing to end.
            let _ = self.kill(&sandbox);
        }
    }
}

/// A name that nobody else has.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}{:016x}", rand::random::<u64>())
}
