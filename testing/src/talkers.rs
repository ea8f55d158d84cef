//! People who talk without a pause while something goes wrong, and what must be true of it in the end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidings_core::id::direct_id;
use tidings_core::{ConversationId, UserId};
use tokio::task::JoinHandle;

use crate::chance::Chance;
use crate::wire::Way;
use crate::wire::check::all_level;
use crate::wire::device::Device;
use crate::wire::memory::Place;
use crate::world::World;

/// From one message to the next.
const PAUSE: Duration = Duration::from_millis(30);

/// Pairs that talk, each side at another server, and one of each has a second device at a third.
#[derive(Debug)]
pub struct Talkers {
    pairs: Vec<Pair>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u64>>,
    gaps: Arc<Gaps>,
}

#[derive(Debug)]
struct Pair {
    talk: ConversationId,
    ada: Arc<Device>,
    ben: Arc<Device>,
    second: Arc<Device>,
}

/// How long senders went without a tick.
#[derive(Debug, Default)]
struct Gaps {
    worst: Mutex<Duration>,
    sent: AtomicU64,
}

impl Gaps {
    fn note(&self, took: Duration) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let mut worst = self.worst.lock().unwrap();
        *worst = took.max(*worst);
    }
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The longest that a message waited for its tick.
    pub worst: Duration,
    /// Messages that got their tick.
    pub sent: u64,
}

impl Talkers {
    /// So many pairs begin to talk.
    pub async fn start(worlds: &[World], pairs: usize, seed: u64) -> Talkers {
        let mut chance = Chance::new(seed);
        let mut all = Vec::new();
        for pair in 0..pairs {
            let at = |step: usize| &worlds[(pair + step) % worlds.len()];
            let way = Way::ALL[pair % Way::ALL.len()];
            let (ada, ben) = (format!("ada-{pair}"), format!("ben-{pair}"));
            let ada = at(0).person(&ada, way).await;
            let ben = at(1).person(&ben, Way::Cbor).await;
            let login = at(2).log_in(&format!("ada-{pair}")).await;
            let second = format!("ada-{pair}'s second");
            let port = at(2).port();
            let second = Device::start(&second, Way::Cbor, port, &login, chance.number());
            ben.read_all();
            let talk = direct_id(ada.user, ben.user);
            let seq = ada.sent(ada.say(Place::To(ben.user), "hello")).await;
            ada.sees_delivered(talk, ben.user, seq).await;
            all.push(Pair {
                talk,
                ada: Arc::new(ada),
                ben: Arc::new(ben),
                second: Arc::new(second),
            });
        }
        let (stop, gaps) = (Arc::new(AtomicBool::new(false)), Arc::new(Gaps::default()));
        let mut tasks = Vec::new();
        for pair in &all {
            for device in [&pair.ada, &pair.ben] {
                let task = talk(device.clone(), pair.talk, stop.clone(), gaps.clone());
                tasks.push(tokio::spawn(task));
            }
        }
        Talkers {
            pairs: all,
            stop,
            tasks,
            gaps,
        }
    }

    /// What happened since the last look.
    pub fn look(&self) -> Look {
        Look {
            worst: std::mem::take(&mut *self.gaps.worst.lock().unwrap()),
            sent: self.gaps.sent.swap(0, Ordering::Relaxed),
        }
    }

    /// Those who are connected at one port go to another, as a load balancer would send them.
    pub fn move_from(&self, from: u16, to: u16) {
        for device in self.devices() {
            if device.port() == from {
                device.set_port(to);
            }
        }
    }

    /// As [`Talkers::move_from`], and what connects them is cut, as a load balancer does that finds a server silent.
    pub async fn cut_from(&self, from: u16, to: u16) {
        let moved: Vec<&Device> = self
            .devices()
            .filter(|device| device.port() == from)
            .collect();
        for device in &moved {
            device.set_port(to);
            device.set_online(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        for device in &moved {
            device.set_online(true);
        }
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.pairs
            .iter()
            .flat_map(|pair| [&*pair.ada, &*pair.ben, &*pair.second])
    }

    /// They stop. Every device must have all that was acknowledged, once and in order.
    pub async fn finish(self, port: u16) {
        self.stop.store(true, Ordering::Relaxed);
        let mut said = Vec::new();
        for task in self.tasks {
            said.push(task.await.unwrap());
        }
        let devices: Vec<&Device> = self
            .pairs
            .iter()
            .flat_map(|pair| [&*pair.ada, &*pair.ben, &*pair.second])
            .collect();
        all_level(port, &devices).await;
        for (pair, counts) in self.pairs.iter().zip(said.chunks(2)) {
            let texts = pair.ada.memory().said(pair.talk);
            for (device, count) in [&pair.ada, &pair.ben].into_iter().zip(counts) {
                check_side(&texts, device.user, *count);
            }
            for device in [&pair.ben, &pair.second] {
                assert_eq!(device.memory().said(pair.talk), texts, "{}", device.name);
            }
        }
    }
}

fn check_side(texts: &[String], user: UserId, count: u64) {
    let side: Vec<&String> = texts
        .iter()
        .filter(|text| text.starts_with(&user.to_string()))
        .collect();
    let expected: Vec<String> = (0..count)
        .map(|number| format!("{user} {number}"))
        .collect();
    assert!(
        side.into_iter().eq(&expected),
        "{user}: {count} were acknowledged: {texts:?}"
    );
}

async fn talk(
    device: Arc<Device>,
    talk: ConversationId,
    stop: Arc<AtomicBool>,
    gaps: Arc<Gaps>,
) -> u64 {
    let mut said = 0;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let message = device.say(Place::In(talk), &format!("{} {said}", device.user));
        device.sent(message).await;
        said += 1;
        gaps.note(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    said
}
