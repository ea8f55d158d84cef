//! The simulator: real clients and the real rules, on one thread and a clock of its own, driven by a seed.
//!
//! Connections are cut, answers come late or never, the server loses power, devices crash, clocks are wrong and jump.
//! Then everything is left in peace, and every device must equal the log: nothing lost, nothing doubled, nothing out of
//! order, badges and ticks right, outboxes empty.
//!
//! `server` is what the clients talk to, `device` is a client with its disk and clock, `network` carries frames, `script`
//! is what people do and what goes wrong, `check` is what must hold in the end. Half of the connections speak in short
//! forms.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a simulation speaks by failing"
)]

mod chat;
mod check;
mod device;
mod marks;
mod network;
mod reads;
mod script;
mod server;
mod short;

use std::collections::BTreeMap;

use tidings_client::Output;
use tidings_core::{DeviceId, Time, UserId};

use self::device::{Device, DiskJob};
use self::network::Connection;
use self::server::{Server, Task};
use crate::chance::Chance;

/// Where the clocks begin.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What a run may contain.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Wishes of people and mishaps.
    pub steps: u32,
    /// Whether the server's data may be put back to an older copy.
    pub roll_backs: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            steps: 120,
            roll_backs: false,
        }
    }
}

/// Something that happens at a time.
#[allow(clippy::large_enum_variant, reason = "there are never many")]
enum Event {
    ToServer(u64, tidings_protocol::ClientFrame),
    ToClient(u64, tidings_protocol::ServerFrame),
    /// A connection of this device and run opens, or cannot be opened.
    Open(usize, u64, bool),
    ClosedAtServer(u64),
    ClosedAtClient(u64),
    Task(u64, Task),
    Timer(usize, u64),
    Disk(usize, u64),
    Step,
    FlushMarks,
    StartServer,
    StartDevice(usize),
}

/// A run.
pub struct Simulation {
    chance: Chance,
    plan: Plan,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    event_count: u64,
    server: Server,
    server_up: bool,
    server_run: u64,
    server_offset: i64,
    devices: Vec<Device>,
    connections: BTreeMap<u64, Connection>,
    connection_count: u64,
    steps_left: u32,
    /// Nothing goes wrong any more.
    calm: bool,
    rolled_back: bool,
    traced: bool,
}

/// Runs a seed to its end and checks what must hold.
///
/// # Panics
/// When it does not hold.
pub fn run(seed: u64, plan: Plan) {
    let mut simulation = Simulation::new(seed, plan);
    simulation.run_to_rest();
    simulation.check();
}

impl Simulation {
    fn new(seed: u64, plan: Plan) -> Simulation {
        let mut chance = Chance::new(seed);
        let user_count = chance.between(2, 5);
        let mut users: BTreeMap<UserId, Vec<DeviceId>> = BTreeMap::new();
        let mut devices = Vec::new();
        for number in 1..=user_count as u8 {
            let user = UserId([number; 16]);
            for device in 1..=chance.between(1, 2) as u8 {
                let mut id = [number; 16];
                id[15] = 100 + device;
                users.entry(user).or_default().push(DeviceId(id));
                devices.push(Device::new(user, DeviceId(id)));
            }
        }
        let mut simulation = Simulation {
            server: Server::new(Chance::part(seed, 1), users),
            chance,
            plan,
            now: 0,
            events: BTreeMap::new(),
            event_count: 0,
            server_up: true,
            server_run: 0,
            server_offset: 0,
            devices,
            connections: BTreeMap::new(),
            connection_count: 0,
            steps_left: plan.steps,
            calm: false,
            rolled_back: false,
            traced: std::env::var_os("TIDINGS_TRACE").is_some(),
        };
        for index in 0..simulation.devices.len() {
            // Some devices are new to a conversation that is long under way.
            let late = if simulation.chance.percent(25) {
                simulation.chance.below(20_000)
            } else {
                0
            };
            simulation.after(late, Event::StartDevice(index));
            simulation.devices[index].offset = simulation.clock_error();
        }
        simulation.after(10, Event::Step);
        simulation.after(100, Event::FlushMarks);
        simulation
    }

    /// With `TIDINGS_TRACE` set, everything that happens is told.
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>8} {}", self.now, what());
        }
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now + millis, event);
    }

    fn at(&mut self, time: u64, event: Event) {
        self.event_count += 1;
        self.events
            .insert((time.max(self.now), self.event_count), event);
    }

    fn wall(&self, device: usize) -> Time {
        let offset = self.devices[device].offset;
        Time((EPOCH_MS + self.now).saturating_add_signed(offset))
    }

    fn clock_error(&mut self) -> i64 {
        let error = match self.chance.below(10) {
            0..6 => self.chance.below(2_000),
            6..9 => self.chance.below(600_000),
            _ => self.chance.below(100_000_000),
        };
        let error = error as i64;
        if self.chance.percent(50) {
            -error
        } else {
            error
        }
    }

    fn run_to_rest(&mut self) {
        let mut rest_at = None;
        while let Some(((time, _), event)) = self.events.pop_first() {
            self.now = time;
            self.server.steady = time;
            self.server.now = Time((EPOCH_MS + time).saturating_add_signed(self.server_offset));
            if self.steps_left == 0 && !self.calm {
                self.calm_down();
                rest_at = Some(self.now + 100_000);
            }
            if rest_at.is_some_and(|at| self.now > at) {
                return;
            }
            self.happens(event);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::ToServer(connection, frame) => self.arrive_at_server(connection, frame),
            Event::ToClient(connection, frame) => self.arrive_at_client(connection, frame),
            Event::Open(device, run, succeeds) => self.open(device, run, succeeds),
            Event::ClosedAtServer(connection) => self.closed_at_server(connection),
            Event::ClosedAtClient(connection) => self.closed_at_client(connection),
            Event::Task(run, task) => {
                if run == self.server_run && self.server_up {
                    self.server.task(task);
                    self.drain_server();
                }
            }
            Event::Timer(device, run) => {
                if self.devices[device].run == run {
                    self.devices[device].timer_at = None;
                    self.with_client(device, |client, now| client.handle_timeout(now));
                }
            }
            Event::Disk(device, run) => self.disk(device, run),
            Event::Step => {
                if self.steps_left > 0 {
                    self.steps_left -= 1;
                    self.step();
                    let wait = if self.chance.percent(80) { 200 } else { 3_000 };
                    let wait = self.chance.below(wait);
                    self.after(wait, Event::Step);
                }
            }
            Event::FlushMarks => {
                server::ready(tidings_store::Store::flush(&self.server.store))
                    .expect("marks are flushed");
                self.after(100, Event::FlushMarks);
            }
            Event::StartServer => self.server_up = true,
            Event::StartDevice(device) => {
                if self.devices[device].client.is_none() {
                    let (now, seed) = (self.wall(device), self.chance.number());
                    self.devices[device].start(now, seed);
                    self.drain_client(device);
                }
            }
        }
    }

    /// Everything that is down comes up, and nothing more goes wrong.
    fn calm_down(&mut self) {
        self.calm = true;
        self.server.trouble = false;
        self.server_up = true;
        for device in 0..self.devices.len() {
            self.after(0, Event::StartDevice(device));
            self.devices[device].offline = false;
            self.with_client(device, |client, now| client.reconnect_now(now));
        }
    }

    fn with_client(&mut self, device: usize, act: impl FnOnce(&mut tidings_client::Client, Time)) {
        let now = self.wall(device);
        if let Some(client) = self.devices[device].client.as_mut() {
            act(client, now);
            self.drain_client(device);
        }
    }

    /// Does what a client asks for.
    fn drain_client(&mut self, device: usize) {
        let run = self.devices[device].run;
        while let Some(output) = self.devices[device]
            .client
            .as_mut()
            .and_then(tidings_client::Client::poll_output)
        {
            match output {
                Output::Connect => {
                    let wait = self.chance.below(60);
                    let succeeds = self.calm || self.chance.percent(90);
                    self.after(wait, Event::Open(device, run, succeeds));
                }
                Output::Disconnect => self.hang_up(device),
                Output::Send(frame) => self.send_to_server(device, frame),
                Output::Store(ops, token) => self.queue_disk(device, DiskJob::Store(ops, token)),
                Output::Load(reads, token) => self.queue_disk(device, DiskJob::Load(reads, token)),
                Output::Changed(change) => self.devices[device].changed(change),
            }
        }
        self.set_timer(device);
    }

    fn set_timer(&mut self, index: usize) {
        let wall = self.wall(index);
        let device = &mut self.devices[index];
        let Some(timeout) = device
            .client
            .as_ref()
            .and_then(tidings_client::Client::poll_timeout)
        else {
            return;
        };
        let at = self.now + timeout.millis_since(wall).max(1);
        if device
            .timer_at
            .is_none_or(|set| at < set || set <= self.now)
        {
            device.timer_at = Some(at);
            let run = device.run;
            self.at(at, Event::Timer(index, run));
        }
    }

    fn queue_disk(&mut self, device: usize, job: DiskJob) {
        self.devices[device].disk.push_back(job);
        if self.devices[device].disk.len() == 1 {
            self.plan_disk(device);
        }
    }

    fn plan_disk(&mut self, device: usize) {
        let (wait, run) = (1 + self.chance.below(10), self.devices[device].run);
        self.after(wait, Event::Disk(device, run));
    }

    fn disk(&mut self, index: usize, run: u64) {
        let device = &mut self.devices[index];
        if device.run != run {
            return;
        }
        match device.disk.pop_front() {
            Some(DiskJob::Store(ops, token)) => {
                device.write(ops);
                device.unwritten.retain(|_, waits_for| *waits_for > token);
                self.with_client(index, |client, now| client.handle_stored(now, token));
            }
            Some(DiskJob::Load(reads, token)) => {
                let rows = device.read(&reads);
                self.with_client(index, |client, now| client.handle_loaded(now, token, rows));
            }
            None => {}
        }
        if !self.devices[index].disk.is_empty() {
            self.plan_disk(index);
        }
    }

    /// Sends what the server has to say, and plans what it does later.
    fn drain_server(&mut self) {
        for (connection, frame) in std::mem::take(&mut self.server.out) {
            self.send_to_client(connection, frame);
        }
        for (wait, task) in std::mem::take(&mut self.server.tasks) {
            let run = self.server_run;
            self.after(wait, Event::Task(run, task));
        }
    }
}
