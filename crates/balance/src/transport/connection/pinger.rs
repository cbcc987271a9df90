//! Asks a connection's peer for signs of life: the clock and the PINGs around the rules in `liveness`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    liveness::{Liveness, Step},
    vitals::Vitals,
};
use crate::transport::{io::Line, keep_alive::Pace};

pub(super) struct Pinger {
    ping: h2::PingPong,
    liveness: Liveness,
    vitals: Arc<Vitals>,
    line: Arc<Line>,
    /// There is one from the first time that the clock matters.
    timer: Option<Pin<Box<Sleep>>>,
    /// Waits for the first answer.
    first: Option<oneshot::Sender<()>>,
}

impl Pinger {
    /// Sends the first PING, and tells `first` of its answer.
    pub(super) fn start(
        ping: h2::PingPong,
        pace: &Pace,
        vitals: &Arc<Vitals>,
        line: &Arc<Line>,
        first: oneshot::Sender<()>,
    ) -> Self {
        let mut this = Self {
            ping,
            liveness: Liveness::new(pace.clone(), Instant::now()),
            vitals: Arc::clone(vitals),
            line: Arc::clone(line),
            timer: None,
            first: Some(first),
        };
        this.send();
        this
    }

    /// Something was heard.
    pub(super) fn hear(&mut self) {
        if self.liveness.is_timed() {
            self.liveness.hear(self.line.heard_at());
        }
    }

    /// Does what is due; ready when the peer is to be given up.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, has_calls: impl Fn() -> bool) -> Poll<()> {
        if self.vitals.take_suspicion(cx) {
            let now = Instant::now();
            if self.liveness.suspect(now, self.line.heard()) {
                self.send();
            }
            // Whoever suspected it has marked it already, also where no PING is to be sent.
            self.vitals.set(self.liveness.availability(now));
        }
        if self.vitals.is_abandoned() {
            self.liveness.abandon(Instant::now());
        }
        while self.liveness.is_timed() {
            self.take_answer(cx);
            let now = Instant::now();
            self.vitals.set(self.liveness.availability(now));
            match self.liveness.step(now, has_calls()) {
                Step::Ask => self.send(),
                Step::GiveUp => return Poll::Ready(()),
                Step::Wait(None) => break,
                Step::Wait(Some(until)) => ready!(self.poll_timer(until, cx)),
            }
        }
        Poll::Pending
    }

    fn take_answer(&mut self, cx: &mut Context<'_>) {
        if self.liveness.is_asked() && matches!(self.ping.poll_pong(cx), Poll::Ready(Ok(_))) {
            self.liveness.answered(self.line.heard());
            if let Some(first) = self.first.take() {
                let _nobody_waits = first.send(());
            }
        }
    }

    /// An error means that the connection has ended, which its driver sees.
    fn send(&mut self) {
        let _ended = self.ping.send_ping(h2::Ping::opaque());
    }

    /// Ready at `until` or before. A timer that is early is not moved, so that a connection in use need not move it with
    /// each byte.
    fn poll_timer(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.is_elapsed() || timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}
