//! The connection between the two.

use super::*;

impl World {
    pub(super) fn send(
        &mut self,
        from: usize,
        conn: u64,
        message: Box<Message>,
        payload: Option<Part>,
    ) {
        let tags = payload.map(|part| self.nodes[from].part(part));
        let bytes = tags.as_ref().map_or(0, |tags| tags.len() * 512);
        if usize::try_from(message.body.payload()) != Ok(bytes) {
            return self.violate("Protocol", format!("payload of {message:?}"));
        }
        let mut encoded = Vec::new();
        crate::link::encode(&message, &mut encoded);
        if self.link.conn != conn || !self.link.alive {
            return;
        }
        let to = 1 - from;
        let delay = self.rng.range(20, 200);
        let at = (self.now + delay)
            .max(self.link.arrived[to])
            .max(self.link.stalled_until[from]);
        self.link.arrived[to] = at;
        let wait = at - self.now;
        self.after(
            wait,
            Ev::Deliver {
                to,
                conn,
                message,
                payload: tags,
            },
        );
    }

    pub(super) fn close_conn(&mut self, conn: u64) {
        if self.link.conn == conn {
            self.link.alive = false;
        }
        for node in 0..2 {
            let delay = self.rng.range(0, 2000);
            self.after(delay, Ev::Lost { node, conn });
        }
    }

    pub(super) fn reachable(&self) -> bool {
        self.link.broken_until <= self.now
            && self.link.stalled_until.iter().all(|at| *at <= self.now)
    }

    pub(super) fn connect(&mut self) {
        let up = |host: &Node| host.engine.is_some() && host.paused_until <= self.now;
        if !self.nodes.iter().all(up) || !self.reachable() {
            return;
        }
        let both = self
            .nodes
            .iter()
            .all(|host| host.session == Some(self.link.conn));
        if self.link.alive && both {
            return;
        }
        self.link.conn += 1;
        self.link.alive = true;
        self.link.arrived = [0; 2];
        let conn = self.link.conn;
        for node in 0..2 {
            let delay = self.rng.range(50, 1000);
            self.link.arrived[node] = self.now + delay;
            self.after(delay, Ev::Connected { node, conn });
        }
    }
}
