//! Connections: in order while they last, cut at any moment, noticed by the two ends at different times.

use tidings_protocol::{ClientFrame, ServerFrame};

use super::server::Caller;
use super::{Event, Simulation};

pub(super) struct Connection {
    pub(super) device: usize,
    caller: Caller,
    /// Frames arrive in order: not before these times.
    server_at: u64,
    client_at: u64,
    /// Cut: what is under way to the server may still arrive, up to some frame; nothing reaches the client.
    cut: bool,
    /// Nothing reaches the server any more.
    silent: bool,
}

impl Simulation {
    pub(super) fn open(&mut self, index: usize, run: u64, succeeds: bool) {
        if self.devices[index].run != run || self.devices[index].client.is_none() {
            return;
        }
        if !succeeds || !self.server_up {
            return self.with_client(index, |client, now| client.handle_disconnected(now));
        }
        self.connection_count += 1;
        let device = &mut self.devices[index];
        device.connection = Some(self.connection_count);
        let caller = Caller {
            user: device.user,
            device: device.id,
        };
        let connection = Connection {
            device: index,
            caller,
            server_at: 0,
            client_at: 0,
            cut: false,
            silent: false,
        };
        self.connections.insert(self.connection_count, connection);
        self.with_client(index, |client, now| client.handle_connected(now));
    }

    /// The client closes its connection.
    pub(super) fn hang_up(&mut self, device: usize) {
        if let Some(connection) = self.devices[device].connection.take() {
            self.cut(connection);
        }
    }

    /// A connection breaks. The server notices some time later.
    pub(super) fn cut(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.cut = true;
            let wait = self.chance.below(3_000);
            self.after(wait, Event::ClosedAtServer(id));
        }
    }

    pub(super) fn closed_at_server(&mut self, id: u64) {
        self.connections.remove(&id);
        self.server.disconnected(id);
    }

    pub(super) fn closed_at_client(&mut self, id: u64) {
        let holder = self
            .devices
            .iter()
            .position(|device| device.connection == Some(id));
        if let Some(index) = holder {
            self.devices[index].connection = None;
            self.with_client(index, |client, now| client.handle_disconnected(now));
        }
    }

    pub(super) fn send_to_server(&mut self, device: usize, frame: ClientFrame) {
        let Some(id) = self.devices[device].connection else {
            return;
        };
        let latency = 1 + self.chance.below(40);
        let now = self.now;
        let Some(connection) = self
            .connections
            .get_mut(&id)
            .filter(|connection| !connection.cut)
        else {
            return;
        };
        connection.server_at = connection.server_at.max(now + latency);
        let at = connection.server_at;
        self.at(at, Event::ToServer(id, frame));
    }

    pub(super) fn send_to_client(&mut self, id: u64, frame: ServerFrame) {
        let slow = if self.chance.percent(5) { 300 } else { 40 };
        let latency = 1 + self.chance.below(slow);
        let now = self.now;
        let Some(connection) = self
            .connections
            .get_mut(&id)
            .filter(|connection| !connection.cut)
        else {
            return;
        };
        connection.client_at = connection.client_at.max(now + latency);
        let at = connection.client_at;
        self.at(at, Event::ToClient(id, frame));
    }

    pub(super) fn arrive_at_server(&mut self, id: u64, frame: ClientFrame) {
        let stops = self.chance.percent(30);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.silent |= connection.cut && stops;
        if connection.silent || !self.server_up {
            return;
        }
        let caller = connection.caller;
        self.trace(|| format!("{id} {} → {frame:?}", caller.device));
        self.server.handle(id, caller, frame);
        self.drain_server();
    }

    pub(super) fn arrive_at_client(&mut self, id: u64, frame: ServerFrame) {
        let Some(connection) = self
            .connections
            .get(&id)
            .filter(|connection| !connection.cut)
        else {
            return;
        };
        let device = connection.device;
        if self.devices[device].connection == Some(id) {
            // A live push is only a hint.
            let hint = matches!(
                frame,
                ServerFrame::Entries(_) | ServerFrame::Marks(_) | ServerFrame::Conversation(_)
            );
            let is_event =
                !matches!(&frame, ServerFrame::Conversation(frame) if frame.id.is_some());
            if hint && is_event && !self.calm && self.chance.percent(2) {
                return;
            }
            self.trace(|| format!("{id} {} ← {frame:?}", self.devices[device].id));
            self.with_client(device, |client, now| client.handle_frame(now, frame));
        }
    }
}
