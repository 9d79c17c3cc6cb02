//! The files of TLS, while the gateway runs: looked at from time to time, and whenever somebody says that they have changed.
//!
//! A disk that hangs holds up nothing but this: the files are read on a thread of their own.

use super::log::Log;
use super::metrics::tls::Reloads;
use crate::tls::server::{Asked, Event, Files};
use metrics::gauge;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Before the next look where something is being written.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// Orders that wait; each is answered by a look at all files.
const ORDERS_MAX: usize = 16;

/// What a look has found, at one listener.
#[derive(Clone)]
pub struct Found {
    listener: SocketAddr,
    event: Event,
}

/// What came of an order: everything that was replaced, and everything that could not be.
pub type Answer = Result<Vec<Found>, Gone>;

/// Nobody looks at the files any more.
#[derive(Debug)]
pub struct Gone;

/// How the files are ordered to be looked at.
#[derive(Clone)]
pub struct Orders(mpsc::Sender<oneshot::Sender<Vec<Found>>>);

/// What is found, for the log.
pub(super) struct Watch {
    found: mpsc::UnboundedReceiver<Found>,
}

impl Found {
    /// Where the listener listens.
    pub fn listener(&self) -> SocketAddr {
        self.listener
    }

    /// The file, and why it is not in force, if it is not.
    pub fn file(&self) -> (String, Option<&str>) {
        match &self.event {
            Event::Replaced(path) => (path.display().to_string(), None),
            Event::Refused(fault) => (fault.path.display().to_string(), Some(&fault.why)),
        }
    }
}

impl Orders {
    /// Has all files looked at, as complete as they are now.
    ///
    /// # Errors
    /// Nobody looks at them any more.
    pub async fn look(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }

    /// The same without waiting for what is found.
    ///
    /// # Errors
    /// Nobody looks at them any more.
    pub(super) fn order(&self) -> Result<(), Gone> {
        match self.0.try_send(oneshot::channel().0) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
            // Where many orders wait, one more tells nothing new.
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
        }
    }
}

impl Watch {
    /// Says what has been found.
    pub(super) fn tell(&mut self, log: &mut Log) {
        while let Ok(found) = self.found.try_recv() {
            let (file, refused) = found.file();
            let mut members = vec![("listener", found.listener.to_string()), ("file", file)];
            match refused {
                None => log.event("certificate_replaced", &members),
                Some(why) => {
                    members.push(("error", why.to_owned()));
                    log.error("certificate_refused", &members);
                }
            }
        }
    }
}

/// Begins to look at the files.
pub(super) fn start(files: Vec<Files>) -> (Orders, Watch) {
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let (tell, found) = mpsc::unbounded_channel();
    tokio::spawn(go_on(files, ordered, tell));
    (Orders(orders), Watch { found })
}

async fn go_on(
    mut files: Vec<Files>,
    mut orders: mpsc::Receiver<oneshot::Sender<Vec<Found>>>,
    tell: mpsc::UnboundedSender<Found>,
) {
    let reloads = Reloads::default();
    let mut pause = Duration::ZERO;
    loop {
        let order = tokio::select! {
            () = tokio::time::sleep(pause) => None,
            Some(order) = orders.recv() => Some(order),
        };
        let asked = match order {
            Some(_) => Asked::Somebody,
            None => Asked::Nobody,
        };
        let looked = tokio::task::spawn_blocking(move || look(files, asked)).await;
        // It panicked, and what is in force stays so.
        let Ok(looked) = looked else { return };
        files = looked.files;
        pause = match looked.is_unsettled {
            true => SETTLE_INTERVAL,
            false => INTERVAL,
        };
        for found in &looked.found {
            match found.event {
                Event::Replaced(_) => reloads.replaced.increment(1),
                Event::Refused(_) => reloads.refused.increment(1),
            }
            // Whoever writes the log ends with the process.
            let _ = tell.send(found.clone());
        }
        if let Some(order) = order {
            // Whoever asked may have left.
            let _ = order.send(looked.found);
        }
    }
}

struct Looked {
    files: Vec<Files>,
    found: Vec<Found>,
    is_unsettled: bool,
}

fn look(mut files: Vec<Files>, asked: Asked) -> Looked {
    let now = SystemTime::now();
    let (mut found, mut is_unsettled) = (Vec::new(), false);
    for one in &mut files {
        let look = one.look(asked, now);
        is_unsettled |= look.is_unsettled;
        let listener = one.address();
        let events = look.events.into_iter();
        found.extend(events.map(|event| Found { listener, event }));
        publish(one, now);
    }
    Looked {
        files,
        found,
        is_unsettled,
    }
}

/// Negative once it has expired.
fn publish(files: &Files, now: SystemTime) {
    let listener = files.address().to_string();
    for (file, is_refused) in files.refusals() {
        let file = file.display().to_string();
        gauge!("relay_tls_file_refused", "listener" => listener.clone(), "file" => file)
            .set(f64::from(u8::from(is_refused)));
    }
    for (file, valid) in files.in_force() {
        let left = match valid.until.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(past) => -past.duration().as_secs_f64(),
        };
        let file = file.display().to_string();
        gauge!("relay_tls_certificate_expiry_seconds", "listener" => listener.clone(), "file" => file)
            .set(left.trunc());
    }
}
